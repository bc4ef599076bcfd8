// Handshake of bitmod_unit: a waiting result stays as it is, none comes without its last quad, none is lost or doubled;
// a term of four weights is at most 4 x 2047 x 8, of which the accumulator's range follows.
module bitmod_unit_formal (
    input clk, input rst, input [2:0] cfg, input [31:0] file, input s_valid, input [63:0] s_act, input [31:0] s_wcode,
    input [1:0] s_svsel, input s_last, input [2:0] s_scale, input out_ready,
    input [63:0] t_act, input [15:0] t_term, input [2:0] t_bsig
);
    wire s_ready, out_valid, err;
    wire [20:0] out_man;
    wire [5:0]  out_exp;
    bitmod_unit #(.ACC_W(18), .D_W(3)) dut (
        .clk(clk), .rst(rst), .cfg_dtype(cfg), .cfg_sv_file(file), .s_valid(s_valid), .s_ready(s_ready), .s_act(s_act),
        .s_wcode(s_wcode), .s_svsel(s_svsel), .s_last(s_last), .s_scale(s_scale),
        .out_valid(out_valid), .out_ready(out_ready), .out_man(out_man), .out_exp(out_exp), .err(err));

    reg past = 0, rst_q = 0, held_q = 0, wait_q = 0;
    reg [20:0]  man_q;
    reg [5:0]   exp_q;
    reg [2:0]   cfg_q;
    reg [132:0] offer_q;
    reg [3:0]   due = 0;                      // groups whose last quad was taken and that have not left
    reg [3:0]   idle = 0;                     // edges for which one was due and none was valid
    wire [132:0] offer = {s_act, s_wcode, s_svsel, s_last, s_scale, file};
    wire group = s_valid & s_ready & s_last;
    wire left  = out_valid & out_ready;
    always @(posedge clk) begin
        past    <= 1;
        rst_q   <= rst;
        cfg_q   <= cfg;
        held_q  <= out_valid & !out_ready & !rst;
        wait_q  <= s_valid & !s_ready & !rst;
        man_q   <= out_man;
        exp_q   <= out_exp;
        offer_q <= offer;
        due     <= rst ? 0 : due + group - left;
        idle    <= rst | out_valid | due == 0 ? 0 : idle + 1;
    end
    always @* if (past) begin
        assume(cfg == cfg_q);
        if (wait_q) assume(s_valid && offer == offer_q);              // a source does not take back what it offers
        if (held_q) assert(out_valid && out_man == man_q && out_exp == exp_q);
        if (rst_q) assert(!out_valid && !err);
        if (out_valid) assert(due != 0);
        assert(due <= 5);
        assert(idle < 6);                     // 3 + D_W edges from the last term
    end

    // one group of one term, straight after reset
    wire t_ready, t_out;
    wire signed [20:0] t_man;
    reg over = 0;
    bitmod_pe #(.ACC_W(18), .D_W(3)) pe (
        .clk(clk), .rst(!past), .t_valid(!over), .t_ready(t_ready), .t_act(t_act), .t_term(t_term), .t_bsig(t_bsig),
        .t_last(1'b1), .t_scale(3'd1), .bad(), .out_valid(t_out), .out_ready(1'b1), .out_man(t_man), .out_exp());
    always @(posedge clk) over <= past;
    always @* if (past & t_out) assert(t_man <= 65504 && t_man >= -65504);
endmodule

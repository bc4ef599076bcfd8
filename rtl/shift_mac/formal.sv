// Handshake of shift_mac: a waiting result stays as it is, none comes without its last beat, none is lost or doubled, with
// integers and with FP16; an FP16 accumulator of the smallest width gives what a wider one gives, for as many beats as it is
// said to hold.
module shift_mac_formal (
    input clk, input rst, input s_valid, input [5:0] s_a, input [3:0] s_w, input [1:0] s_mask,
    input s_last, input out_ready, input [15:0] h_a,
    input t_valid, input [31:0] t_a, input [3:0] t_w, input [1:0] t_mask, input t_last
);
    wire s_ready, out_valid;
    wire [9:0] out_data;
    shift_mac #(.L(2), .A_W(3), .B(2), .ACC_W(10)) dut (
        .clk(clk), .rst(rst), .s_valid(s_valid), .s_ready(s_ready), .s_a(s_a), .s_w(s_w), .s_mask(s_mask), .s_last(s_last),
        .out_valid(out_valid), .out_ready(out_ready), .out_data(out_data), .out_exp(), .err());

    wire h_ready, h_valid, h_err;
    wire [15:0] h_data;
    wire [4:0]  h_exp;
    shift_mac #(.FP(1), .L(1), .B(2), .ACC_W(16)) half (
        .clk(clk), .rst(rst), .s_valid(s_valid), .s_ready(h_ready), .s_a(h_a), .s_w(s_w[1:0]), .s_mask(s_mask[0]),
        .s_last(s_last), .out_valid(h_valid), .out_ready(out_ready), .out_data(h_data), .out_exp(h_exp), .err(h_err));

    reg past = 0, rst_q = 0, held_q = 0, taken_q = 0, moved_q = 0, err_q = 0;
    reg [9:0]  data_q;
    reg [20:0] half_q;
    reg [2:0]  due = 0;
    wire result = s_valid & s_ready & s_last;
    always @(posedge clk) begin
        past    <= 1;
        rst_q   <= rst;
        held_q  <= out_valid & !out_ready & !rst;
        taken_q <= result & !rst;
        moved_q <= s_valid & s_ready & !rst;
        err_q   <= h_err;
        data_q  <= out_data;
        half_q  <= {h_exp, h_data};
        due     <= rst ? 0 : due + result - (out_valid & out_ready);
    end
    always @* if (past) begin
        if (held_q) assert(out_valid && out_data == data_q && {h_exp, h_data} == half_q);
        if (rst_q) assert(!out_valid && s_ready && !h_err);
        if (out_valid) assert(due != 0);
        if (!out_valid) assert(due == taken_q);                       // what was taken an edge before comes out now
        assert(due <= 2);
        assert(h_valid == out_valid && h_ready == s_ready);
        if (h_err) assert(err_q || moved_q);
    end

    // 2^(17 - 15) / 2 lanes = 2 beats of anything fit into 17 bits; they come one after the other and nothing follows them
    wire narrow_valid, wide_valid;
    wire [16:0] narrow_data;
    wire [18:0] wide_data;
    wire [4:0]  narrow_exp, wide_exp;
    shift_mac #(.FP(1), .L(2), .B(2), .ACC_W(17)) narrow (
        .clk(clk), .rst(!past), .s_valid(t_valid), .s_ready(), .s_a(t_a), .s_w(t_w), .s_mask(t_mask), .s_last(t_last),
        .out_valid(narrow_valid), .out_ready(1'b1), .out_data(narrow_data), .out_exp(narrow_exp), .err());
    shift_mac #(.FP(1), .L(2), .B(2), .ACC_W(19)) wide (
        .clk(clk), .rst(!past), .s_valid(t_valid), .s_ready(), .s_a(t_a), .s_w(t_w), .s_mask(t_mask), .s_last(t_last),
        .out_valid(wide_valid), .out_ready(1'b1), .out_data(wide_data), .out_exp(wide_exp), .err());
    reg [1:0] beats = 0;
    reg       over = 0;
    always @(posedge clk) begin
        if (past) beats <= beats + t_valid;
        if (past) over  <= over | t_last;
    end
    always @* if (past) begin
        assume(t_valid == !over);
        if (beats == 1) assume(t_last);
        if (narrow_valid) assert(wide_valid && wide_data == {{2{narrow_data[16]}}, narrow_data} && wide_exp == narrow_exp);
    end
endmodule

// Handshake of bfp_align: a waiting beat stays as it is, a block comes out when all of it came in, whole and once, and all
// its beats carry the largest exponent of its values.
module bfp_align_formal (input clk, input rst, input s_valid, input [15:0] s_data, input out_ready);
    wire s_ready, out_valid, out_last, err;
    wire [2:0] out_data;
    wire [4:0] out_exp;
    bfp_align #(.B(2), .LANES(1), .N(3)) dut (
        .clk(clk), .rst(rst), .s_valid(s_valid), .s_ready(s_ready), .s_data(s_data), .out_valid(out_valid),
        .out_ready(out_ready), .out_data(out_data), .out_exp(out_exp), .out_last(out_last), .err(err));

    wire [4:0] field = &s_data[14:10] ? 5'd30 : s_data[14:10] | {4'd0, !(|s_data[14:10])};
    wire in_fire  = s_valid & s_ready;
    wire out_fire = out_valid & out_ready;

    reg past = 0, rst_q = 0, held_q = 0, flag = 0;
    reg [8:0] data_q;
    reg       in_at = 0, out_at = 0;          // place of the next beat in its block
    reg [4:0] first_q;                        // exponent of the first value of the block that comes in
    reg [3:0] due = 0;                        // beats of whole blocks that have not left
    reg [1:0] wr = 0, rd = 0;                 // blocks taken, blocks given
    reg [4:0] top [0:3];                      // their exponents
    always @(posedge clk) begin
        past   <= 1;
        rst_q  <= rst;
        held_q <= out_valid & !out_ready & !rst;
        data_q <= {out_data, out_exp, out_last};
        flag   <= !rst & (flag | (in_fire & (&s_data[14:10])));
        in_at  <= !rst & (in_at ^ in_fire);
        out_at <= !rst & (out_at ^ out_fire);
        due    <= rst ? 0 : due + (in_fire & in_at ? 2 : 0) - out_fire;
        if (in_fire & !in_at) first_q <= field;
        if (in_fire & in_at) top[wr] <= field > first_q ? field : first_q;
        wr     <= rst ? 0 : wr + (in_fire & in_at);
        rd     <= rst ? 0 : rd + (out_fire & out_at);
    end
    always @* if (past) begin
        if (held_q) assert(out_valid && {out_data, out_exp, out_last} == data_q);
        if (rst_q) assert(!out_valid && !err && s_ready);
        assert(err == flag);
        assert(due <= 6);
        if (out_valid) begin
            assert(due != 0);
            assert(out_last == out_at);
            assert(out_exp == top[rd]);
            assert(out_data != 3'b100);       // mantissas are symmetric
        end
        assert(s_ready == (!out_valid | out_ready));
    end
endmodule

// Handshake of ternary_acc: a waiting result stays as it is, none comes without its last beat, none is lost or doubled;
// an illegal code is flagged by the edge that takes it, and by no other.
module ternary_acc_formal (
    input clk, input rst, input s_valid, input [3:0] s_a, input [3:0] s_w, input s_last, input out_ready
);
    wire s_ready, out_valid, err;
    wire [4:0] out_data;
    ternary_acc #(.L(2), .NO(1), .A_W(2), .ACC_W(5)) dut (
        .clk(clk), .rst(rst), .s_valid(s_valid), .s_ready(s_ready), .s_a(s_a), .s_w(s_w), .s_last(s_last),
        .out_valid(out_valid), .out_ready(out_ready), .out_data(out_data), .err(err));

    reg past = 0, rst_q = 0, held_q = 0, bad_q = 0;
    reg [4:0] data_q;
    reg [2:0] due = 0;
    wire bad = s_w[1:0] == 2'b10 | s_w[3:2] == 2'b10;
    always @(posedge clk) begin
        past   <= 1;
        rst_q  <= rst;
        held_q <= out_valid & !out_ready & !rst;
        data_q <= out_data;
        bad_q  <= !rst & (bad_q | (s_valid & s_ready & bad));
        due    <= rst ? 0 : due + (s_valid & s_ready & s_last) - (out_valid & out_ready);
    end
    always @* if (past) begin
        if (held_q) assert(out_valid && out_data == data_q);
        if (rst_q) assert(!out_valid && s_ready);
        if (out_valid) assert(due != 0);
        assert(due <= 2);
        assert(err == bad_q);
    end
endmodule

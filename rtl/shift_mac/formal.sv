// Handshake of shift_mac: a waiting result stays as it is, none comes without its last beat, none is lost or doubled.
module shift_mac_formal (
    input clk, input rst, input s_valid, input [5:0] s_a, input [3:0] s_w, input [1:0] s_mask,
    input s_last, input out_ready
);
    wire s_ready, out_valid;
    wire [9:0] out_data;
    shift_mac #(.L(2), .A_W(3), .B(2), .ACC_W(10)) dut (
        .clk(clk), .rst(rst), .s_valid(s_valid), .s_ready(s_ready), .s_a(s_a), .s_w(s_w), .s_mask(s_mask), .s_last(s_last),
        .out_valid(out_valid), .out_ready(out_ready), .out_data(out_data));

    reg past = 0, rst_q = 0, held_q = 0;
    reg [9:0] data_q;
    reg [2:0] due = 0;
    always @(posedge clk) begin
        past   <= 1;
        rst_q  <= rst;
        held_q <= out_valid & !out_ready & !rst;
        data_q <= out_data;
        due    <= rst ? 0 : due + (s_valid & s_ready & s_last) - (out_valid & out_ready);
    end
    always @* if (past) begin
        if (held_q) assert(out_valid && out_data == data_q);
        if (rst_q) assert(!out_valid && s_ready);
        if (out_valid) assert(due != 0);
        assert(due <= 2);
    end
endmodule

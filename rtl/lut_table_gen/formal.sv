// Handshake of lut_table_gen (rounded): a waiting table stays, as many leave as activations came, at most three inside.
module lut_table_gen_formal (input clk, input rst, input a_valid, input [5:0] a_data, input tbl_ready);
    wire a_ready, tbl_valid;
    wire [5:0] tbl_data;
    wire [1:0] tbl_exp;
    lut_table_gen #(.K(2), .A_W(3), .Q(1), .Q_W(3), .E_W(2)) dut (
        .clk(clk), .rst(rst), .a_valid(a_valid), .a_ready(a_ready), .a_data(a_data),
        .tbl_valid(tbl_valid), .tbl_ready(tbl_ready), .tbl_data(tbl_data), .tbl_exp(tbl_exp));

    reg past = 0, rst_q = 0, held_q = 0;
    reg [7:0] data_q;
    reg [2:0] inside = 0;
    always @(posedge clk) begin
        past   <= 1;
        rst_q  <= rst;
        held_q <= tbl_valid & !tbl_ready & !rst;
        data_q <= {tbl_exp, tbl_data};
        inside <= rst ? 0 : inside + (a_valid & a_ready) - (tbl_valid & tbl_ready);
    end
    always @* if (past) begin
        if (held_q) assert(tbl_valid && {tbl_exp, tbl_data} == data_q);
        if (rst_q) assert(!tbl_valid && a_ready);
        if (tbl_valid) assert(inside != 0);
        assert(inside <= 3);
        if (!a_ready) assert(inside == 3);
    end
endmodule

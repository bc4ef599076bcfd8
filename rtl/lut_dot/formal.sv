// Handshake of lut_dot: a waiting result stays as it is, none comes without its last plane, none is lost or doubled.
module lut_dot_formal (
    input clk, input rst, input [1:0] cfg, input tbl_valid, input [11:0] tbl_data, input tbl_exp,
    input w_valid, input [1:0] w_idx, input w_last, input out_ready
);
    wire tbl_ready, w_ready, out_valid, err;
    wire [11:0] out_data;
    lut_dot #(.K(2), .T_W(6), .W_MAX(2), .PW(2), .SH_W(1), .ACC_W(12)) dut (
        .clk(clk), .rst(rst), .cfg_wbits(cfg), .tbl_valid(tbl_valid), .tbl_ready(tbl_ready), .tbl_data(tbl_data),
        .tbl_exp(tbl_exp), .w_valid(w_valid), .w_ready(w_ready), .w_idx(w_idx), .w_last(w_last),
        .out_valid(out_valid), .out_ready(out_ready), .out_data(out_data), .err(err));

    reg past = 0, rst_q = 0, held_q = 0;
    reg [11:0] data_q;
    reg [1:0]  cfg_q, plane = 0;
    reg [2:0]  due = 0;                       // results whose last plane was taken and that have not left
    reg [3:0]  tables = 0;                    // tables taken whose last plane was not
    wire [1:0] wbits = cfg == 0 ? 1 : cfg > 2 ? 2 : cfg;
    wire last_plane = plane == wbits - 1;
    wire group = w_valid & w_ready & last_plane;
    always @(posedge clk) begin
        past   <= 1;
        rst_q  <= rst;
        cfg_q  <= cfg;
        held_q <= out_valid & !out_ready & !rst;
        data_q <= out_data;
        if (rst) plane <= 0;
        else if (w_valid & w_ready) plane <= last_plane ? 0 : plane + 1;
        due    <= rst ? 0 : due + (group & w_last) - (out_valid & out_ready);
        tables <= rst ? 0 : tables + (tbl_valid & tbl_ready) - group;
    end
    always @* if (past) begin
        assume(cfg == cfg_q);
        if (held_q) assert(out_valid && out_data == data_q);
        if (rst_q) assert(!out_valid && !err && !w_ready && tbl_ready);
        if (out_valid) assert(due != 0);
        assert(due <= 2);
        if (w_ready) assert(tables == 1);
        assert(tables <= 1);
    end
endmodule

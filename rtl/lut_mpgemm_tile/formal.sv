// Handshake of lut_mpgemm_tile: a waiting row stays as it is, rows come in order and only after their tile's last plane,
// none is lost or doubled.
module lut_mpgemm_tile_formal (
    input clk, input rst, input [1:0] cfg, input tbl_valid, input [15:0] tbl_data, input [1:0] tbl_exp,
    input w_valid, input [3:0] w_idx, input w_last, input out_ready
);
    wire tbl_ready, w_ready, out_valid, out_last, err;
    wire [15:0] out_data;
    lut_mpgemm_tile #(.M(2), .N(2), .K(2), .T_W(4), .W_MAX(2), .PW(2), .SH_W(1), .ACC_W(8)) dut (
        .clk(clk), .rst(rst), .cfg_wbits(cfg), .tbl_valid(tbl_valid), .tbl_ready(tbl_ready), .tbl_data(tbl_data),
        .tbl_exp(tbl_exp), .w_valid(w_valid), .w_ready(w_ready), .w_idx(w_idx), .w_last(w_last),
        .out_valid(out_valid), .out_ready(out_ready), .out_data(out_data), .out_last(out_last), .err(err));

    reg past = 0, rst_q = 0, held_q = 0, taken_q = 0, last_q = 0, row = 0;
    reg [15:0] data_q;
    reg [1:0]  cfg_q, plane = 0;
    reg [3:0]  due = 0;                       // rows of tiles whose last plane was taken that have not left
    reg [3:0]  tables = 0;                    // tables taken whose last plane was not
    wire [1:0] wbits = cfg == 0 ? 1 : cfg > 2 ? 2 : cfg;
    wire last_plane = plane == wbits - 1;
    wire group = w_valid & w_ready & last_plane;
    wire tile  = group & w_last;
    wire left  = out_valid & out_ready;
    always @(posedge clk) begin
        past    <= 1;
        rst_q   <= rst;
        cfg_q   <= cfg;
        held_q  <= out_valid & !out_ready & !rst;
        taken_q <= tile & !rst;
        data_q  <= out_data;
        last_q  <= out_last;
        if (rst) plane <= 0;
        else if (w_valid & w_ready) plane <= last_plane ? 0 : plane + 1;
        row     <= rst ? 0 : row ^ left;
        due     <= rst ? 0 : due + {tile, 1'b0} - left;
        tables  <= rst ? 0 : tables + (tbl_valid & tbl_ready) - group;
    end
    always @* if (past) begin
        assume(cfg == cfg_q);
        if (held_q) assert(out_valid && out_data == data_q && out_last == last_q);
        if (rst_q) assert(!out_valid && !err && !w_ready && tbl_ready);
        if (out_valid) assert(due != 0 && out_last == row);
        if (!out_valid) assert(due == {taken_q, 1'b0} && !row);       // what was taken an edge before that comes out now
        assert(due <= 4);
        if (w_ready) assert(tables == 1);
        assert(tables <= 1);
    end
endmodule

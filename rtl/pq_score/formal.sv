// Handshake of pq_score: a waiting score stays as it is, codes and tables never come at once, no score without its token,
// none lost or doubled, and each is the exact sum of the entries that its codes select: nothing overflows.
module pq_score_formal (
    input clk, input rst, input tbl_valid, input [1:0] tbl_data, input s_valid, input s_code, input s_last, input out_ready
);
    wire tbl_ready, s_ready, out_valid;
    wire [2:0] out_data;
    pq_score #(.M(2), .B(1), .LANES(1), .T_W(2)) dut (
        .clk(clk), .rst(rst), .tbl_valid(tbl_valid), .tbl_ready(tbl_ready), .tbl_data(tbl_data), .s_valid(s_valid),
        .s_ready(s_ready), .s_code(s_code), .s_last(s_last), .out_valid(out_valid), .out_ready(out_ready), .out_data(out_data));

    wire tbl_fire = tbl_valid & tbl_ready;
    wire s_fire   = s_valid & s_ready;
    wire out_fire = out_valid & out_ready;

    reg past = 0, rst_q = 0, held_q = 0, at = 0, loaded = 0;
    reg [2:0] data_q;
    reg [1:0] load = 0, due = 0;
    reg       wr = 0, rd = 0;
    reg signed [1:0] entry0, entry1, entry2, entry3;       // sub-vector 0: 0 and 1
    reg signed [1:0] first_q;
    reg signed [3:0] score [0:1];                          // one bit more than the unit has
    wire signed [1:0] now = at ? (s_code ? entry3 : entry2) : (s_code ? entry1 : entry0);
    wire signed [3:0] shown = {out_data[2], out_data};
    always @(posedge clk) begin
        past   <= 1;
        rst_q  <= rst;
        held_q <= out_valid & !out_ready & !rst;
        data_q <= out_data;
        if (tbl_fire) begin
            if (load == 0) entry0 <= tbl_data;
            if (load == 1) entry1 <= tbl_data;
            if (load == 2) entry2 <= tbl_data;
            if (load == 3) entry3 <= tbl_data;
        end
        load   <= rst ? 0 : load + tbl_fire;
        loaded <= !rst & ((loaded & !(s_fire & at & s_last)) | (tbl_fire & load == 3));
        at     <= !rst & (at ^ s_fire);
        if (s_fire) first_q <= now;
        if (s_fire & at) score[wr] <= first_q + now;
        wr     <= !rst & (wr ^ (s_fire & at));
        rd     <= !rst & (rd ^ out_fire);
        due    <= rst ? 0 : due + (s_fire & at) - out_fire;
    end
    always @* if (past) begin
        if (held_q) assert(out_valid && out_data == data_q);
        if (rst_q) assert(!out_valid && !s_ready && tbl_ready);
        assert(tbl_ready == (!loaded & (!out_valid | out_ready)));
        assert(s_ready == (loaded & (!out_valid | out_ready)));
        assert(due <= 2);
        if (out_valid) begin
            assert(due != 0);
            assert(shown == score[rd]);
        end
    end
endmodule

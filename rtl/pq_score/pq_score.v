// Scores of product-quantised keys: per token the sum over sub-vectors of one entry of the sub-vector's table.
// Cycles: a beat of LANES codes an edge, score valid 2 edges after a token's last beat; a stalled output stalls both inputs.
`default_nettype none
module pq_score #(
    parameter M     = 8,                      // sub-vectors of a key
    parameter B     = 4,                      // code [bit]
    parameter LANES = 4,                      // codes per beat
    parameter T_W   = 8,                      // table entry [bit], signed
    parameter ACC_W = T_W + $clog2(M)         // score [bit]: exact, wraps only with entries where padding should be 0
) (
    input  wire                 clk,
    input  wire                 rst,
    input  wire                 tbl_valid,    // before the codes: for each group of LANES sub-vectors 2^B beats
    output wire                 tbl_ready,
    input  wire [LANES*T_W-1:0] tbl_data,     // one entry of each
    input  wire                 s_valid,
    output wire                 s_ready,
    input  wire [LANES*B-1:0]   s_code,
    input  wire                 s_last,       // last token of these tables; sampled on the last beat of a token
    output wire                 out_valid,
    input  wire                 out_ready,
    output wire [ACC_W-1:0]     out_data
);
    localparam C       = (LANES < 1) ? 1 : (M + LANES - 1) / LANES;    // beats of a token
    localparam CW      = (C > 1) ? $clog2(C) : 1;
    localparam ENTRIES = 1 << B;
    localparam LANE_W  = T_W + $clog2(C);     // sum of a lane
    localparam [CW-1:0] LAST = C - 1;

    generate
        if (LANES < 1)               begin : g_bad_l   pq_score_requires_LANES_at_least_1 stop(); end
        if (M < LANES)               begin : g_bad_m   pq_score_requires_M_at_least_LANES stop(); end
        if (B < 1)                   begin : g_bad_b   pq_score_requires_B_at_least_1 stop(); end
        if (T_W < 2)                 begin : g_bad_t   pq_score_requires_T_W_at_least_2 stop(); end
        if (ACC_W < T_W + $clog2(M)) begin : g_bad_acc pq_score_requires_ACC_W_to_hold_M_entries stop(); end
    endgenerate

    reg          full_q;                      // tables are loaded
    reg [CW-1:0] group_q;                     // of the beat in turn, of a table or of a token
    reg [B-1:0]  entry_q;                     // of a table, in turn
    reg          s1_valid_q, s1_first_q, s1_last_q, out_valid_q;

    wire adv        = !out_valid_q | out_ready;
    wire tbl_fire   = tbl_valid & tbl_ready;
    wire s_fire     = s_valid & s_ready;
    wire last_group = group_q == LAST;
    wire row_done   = tbl_fire & (&entry_q);  // the group's tables are complete

    assign tbl_ready = !full_q & adv;
    assign s_ready   = full_q & adv;
    assign out_valid = out_valid_q;

    // tables of all sub-vectors; those of the group in turn go to the lanes
    reg [C*LANES*ENTRIES*T_W-1:0] tbl_q;
    reg [LANES*ENTRIES*T_W-1:0]   row;
    integer c, n, i;
    always @* begin
        row = {LANES*ENTRIES*T_W{1'b0}};
        for (c = 0; c < C; c = c + 1)
            if (group_q == c[CW-1:0]) row = tbl_q[c*LANES*ENTRIES*T_W +: LANES*ENTRIES*T_W];
    end

    always @(posedge clk) begin
        for (n = 0; n < C*ENTRIES; n = n + 1)
            if (tbl_fire & ({group_q, entry_q} == n[CW+B-1:0]))
                for (i = 0; i < LANES; i = i + 1)
                    tbl_q[(((n >> B)*LANES + i)*ENTRIES + (n & (ENTRIES-1)))*T_W +: T_W] <= tbl_data[i*T_W +: T_W];
        if (adv) begin
            s1_first_q <= group_q == {CW{1'b0}};
            s1_last_q  <= last_group;
        end
        if (rst) begin
            full_q      <= 1'b0;
            group_q     <= {CW{1'b0}};
            entry_q     <= {B{1'b0}};
            s1_valid_q  <= 1'b0;
            out_valid_q <= 1'b0;
        end else begin
            if (tbl_fire) entry_q <= entry_q + 1'b1;
            if (row_done | s_fire) group_q <= last_group ? {CW{1'b0}} : group_q + 1'b1;
            if (row_done & last_group) full_q <= 1'b1;
            if (s_fire & last_group & s_last) full_q <= 1'b0;
            if (adv) begin
                s1_valid_q  <= s_fire;
                out_valid_q <= s1_valid_q & s1_last_q;
            end
        end
    end

    // lanes: lookup and sum over groups; no negation, no shift
    wire [LANES*LANE_W-1:0] sums;
    genvar g;
    generate
        for (g = 0; g < LANES; g = g + 1) begin : g_lane
            lut_lane #(.K(B+1), .T_W(T_W), .SH_W(1), .ACC_W(LANE_W)) lane (
                .clk(clk), .adv(adv), .tbl(row[g*ENTRIES*T_W +: ENTRIES*T_W]), .idx({1'b0, s_code[g*B +: B]}),
                .s1_valid(s1_valid_q), .s1_first(s1_first_q), .s1_sh(1'b0), .acc(sums[g*LANE_W +: LANE_W])
            );
        end
    endgenerate

    reg signed [ACC_W-1:0]  total;
    reg signed [LANE_W-1:0] sum;
    integer k;
    always @* begin
        total = {ACC_W{1'b0}};
        sum   = {LANE_W{1'b0}};
        for (k = 0; k < LANES; k = k + 1) begin
            sum   = sums[k*LANE_W +: LANE_W];
            total = total + sum;
        end
    end
    assign out_data = total;
endmodule
`default_nettype wire

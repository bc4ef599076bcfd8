// Tile of a matrix product on bit-planes: MT rows of activations by NT rows of weights, KW bits of both per beat.
// Cycles: interval 1 plane pair, row 0 valid 2 edges after the last; the drain of MT rows holds MT - 1 edges.
`default_nettype none
module btc_popcount_gemm #(
    parameter MT    = 2,                      // rows of activations
    parameter NT    = 4,                      // rows of weights
    parameter KW    = 128,                    // positions of k per beat
    parameter P_MAX = 8,                      // most planes of an operand
    parameter PW    = 4,                      // holds P_MAX
    parameter ACC_W = 32                      // accumulator [bit], wraps
) (
    input  wire                clk,
    input  wire                rst,
    input  wire [PW-1:0]       cfg_pa,        // planes of the activations
    input  wire [PW-1:0]       cfg_pw,        // planes of the weights
    input  wire                cfg_bipolar,   // 1: bits are -1 and +1; 0: two's complement
    input  wire                s_valid,
    output wire                s_ready,
    input  wire [MT*KW-1:0]    s_a,
    input  wire [NT*KW-1:0]    s_w,
    input  wire                s_last,        // sampled on the last plane pair of a word
    output wire                out_valid,
    input  wire                out_ready,
    output wire [NT*ACC_W-1:0] out_data,      // one row per beat, row 0 first
    output wire                out_last,      // row MT - 1
    output wire                err
);
    localparam CW    = $clog2(KW) + 2;        // one product of planes, -KW to KW
    localparam FILL  = 2*P_MAX - 1;           // more than the largest shift
    localparam SH_W  = $clog2(2*P_MAX);
    localparam MW    = (MT > 1) ? $clog2(MT) : 1;
    localparam WIDE  = ACC_W + FILL;
    localparam LANES = MT*NT;

    generate
        if (MT < 1)             begin : g_bad_mt  btc_popcount_gemm_requires_MT_at_least_1 stop(); end
        if (NT < 1)             begin : g_bad_nt  btc_popcount_gemm_requires_NT_at_least_1 stop(); end
        if (KW < 1)             begin : g_bad_kw  btc_popcount_gemm_requires_KW_at_least_1 stop(); end
        if (P_MAX < 1)          begin : g_bad_p   btc_popcount_gemm_requires_P_MAX_at_least_1 stop(); end
        if ((1 << PW) <= P_MAX) begin : g_bad_pw  btc_popcount_gemm_requires_PW_to_hold_P_MAX stop(); end
        if (ACC_W < CW)         begin : g_bad_acc btc_popcount_gemm_requires_ACC_W_at_least_clog2_KW_plus_2 stop(); end
    endgenerate

    localparam [PW-1:0] MOST     = P_MAX;
    localparam [PW-1:0] ONE      = 1;
    localparam [MW-1:0] LAST_ROW = MT - 1;

    // plane counts in use: illegal ones are clamped and flagged
    wire          a_zero = cfg_pa == {PW{1'b0}};
    wire          a_many = cfg_pa > MOST;
    wire          w_zero = cfg_pw == {PW{1'b0}};
    wire          w_many = cfg_pw > MOST;
    wire [PW-1:0] pa     = a_zero ? ONE : a_many ? MOST : cfg_pa;
    wire [PW-1:0] pw     = w_zero ? ONE : w_many ? MOST : cfg_pw;

    reg [PW-1:0]          i_q, j_q;           // plane of the weights (outer), of the activations (inner)
    reg                   fresh_q;            // next word begins a tile
    reg [LANES*CW-1:0]    val_q;
    reg [SH_W-1:0]        sh_q;
    reg                   neg_q, s1_valid_q, s1_first_q, s1_last_q;
    reg [LANES*ACC_W-1:0] acc_q;
    reg [MW-1:0]          row_q;
    reg                   out_valid_q, err_q;

    wire last_row = row_q == LAST_ROW;
    wire adv      = !out_valid_q | (out_ready & last_row);
    wire s_fire   = s_valid & adv;
    wire last_j   = j_q == pa - ONE;
    wire last_i   = i_q == pw - ONE;
    wire done     = last_i & last_j;          // word complete
    wire minus    = !cfg_bipolar & (last_i ^ last_j);        // exactly one is the plane of its sign
    wire [SH_W+PW:0] place = {{SH_W+1{1'b0}}, i_q} + j_q;

    assign s_ready   = adv;
    assign out_valid = out_valid_q;
    assign out_last  = last_row;
    assign err       = err_q;

    // -(v << s) = (~v << s, filled with ones) + 1: the + 1 comes in as the carry of the accumulators
    reg [KW-1:0]       agree;
    reg [CW-1:0]       count, v;
    reg [LANES*CW-1:0] vals;
    integer m, n, k;
    always @* begin
        vals  = {LANES*CW{1'b0}};
        agree = {KW{1'b0}};
        count = {CW{1'b0}};
        v     = {CW{1'b0}};
        for (m = 0; m < MT; m = m + 1)
            for (n = 0; n < NT; n = n + 1) begin
                agree = cfg_bipolar ? ~(s_a[m*KW +: KW] ^ s_w[n*KW +: KW]) : s_a[m*KW +: KW] & s_w[n*KW +: KW];
                count = {CW{1'b0}};
                for (k = 0; k < KW; k = k + 1) count = count + agree[k];
                v = cfg_bipolar ? {count[CW-2:0], 1'b0} - KW : count;
                vals[(m*NT + n)*CW +: CW] = v ^ {CW{minus}};
            end
    end

    reg signed [CW+FILL-1:0] filled;
    reg [WIDE-1:0]           wide;
    reg [ACC_W:0]            sum;
    reg [LANES*ACC_W-1:0]    sums;
    integer l;
    always @* begin
        sums   = {LANES*ACC_W{1'b0}};
        filled = {CW+FILL{1'b0}};
        wide   = {WIDE{1'b0}};
        sum    = {ACC_W+1{1'b0}};
        for (l = 0; l < LANES; l = l + 1) begin
            filled = {val_q[l*CW +: CW], {FILL{neg_q}}};
            wide   = filled;                  // sign-extends
            wide   = wide << sh_q;
            sum    = {acc_q[l*ACC_W +: ACC_W] & {ACC_W{!s1_first_q}}, 1'b1} + {wide[FILL +: ACC_W], neg_q};
            sums[l*ACC_W +: ACC_W] = sum[ACC_W:1];
        end
    end

    reg [NT*ACC_W-1:0] row;
    integer r;
    always @* begin
        row = {NT*ACC_W{1'b0}};
        for (r = 0; r < MT; r = r + 1)
            if (row_q == r) row = row | acc_q[r*NT*ACC_W +: NT*ACC_W];
    end
    assign out_data = row;

    always @(posedge clk) begin
        if (adv) begin
            val_q      <= vals;
            neg_q      <= minus;
            sh_q       <= place[SH_W-1:0];
            s1_first_q <= fresh_q;
            s1_last_q  <= done & s_last;
            if (s1_valid_q) acc_q <= sums;
        end
        if (rst) begin
            i_q         <= {PW{1'b0}};
            j_q         <= {PW{1'b0}};
            fresh_q     <= 1'b1;
            row_q       <= {MW{1'b0}};
            s1_valid_q  <= 1'b0;
            out_valid_q <= 1'b0;
            err_q       <= 1'b0;
        end else begin
            if (s_fire) begin
                j_q     <= last_j ? {PW{1'b0}} : j_q + ONE;
                if (last_j) i_q <= last_i ? {PW{1'b0}} : i_q + ONE;
                fresh_q <= done & s_last;
            end
            if (adv) begin
                s1_valid_q  <= s_valid;
                out_valid_q <= s1_valid_q & s1_last_q;
            end
            if (out_valid_q & out_ready) row_q <= last_row ? {MW{1'b0}} : row_q + 1'b1;
            if (s_fire & (a_zero | a_many | w_zero | w_many)) err_q <= 1'b1;
        end
    end
endmodule
`default_nettype wire

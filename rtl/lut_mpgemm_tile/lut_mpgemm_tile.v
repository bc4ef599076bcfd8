// Array of lookup lanes: M rows of P tables of K activations shared by N columns of bit-serial weights, output stationary.
// Cycles: interval 1 plane, row 0 valid 2 edges after the last; the drain of M rows holds M - 1 edges.
`default_nettype none
module lut_mpgemm_tile #(
    parameter M     = 2,                      // rows of the result
    parameter N     = 64,                     // columns of weights
    parameter K     = 4,                      // activations per table
    parameter P     = 1,                      // tables of a row, summed before one accumulator
    parameter T_W   = 11,                     // table entry [bit]
    parameter W_MAX = 4,                      // widest weight [bit]
    parameter PW    = 3,                      // holds W_MAX
    parameter SH_W  = 3,                      // holds W_MAX-1 + largest exponent
    parameter ACC_W = 32                      // accumulator [bit], wraps
) (
    input  wire                        clk,
    input  wire                        rst,
    input  wire [PW-1:0]               cfg_wbits,
    input  wire                        tbl_valid,
    output wire                        tbl_ready,
    input  wire [M*P*(1<<(K-1))*T_W-1:0] tbl_data,  // tables of row 0 in the low bits
    input  wire [M*SH_W-1:0]           tbl_exp,   // one a row
    input  wire                        w_valid,
    output wire                        w_ready,
    input  wire [N*P*K-1:0]            w_idx,     // indices of column 0 in the low bits
    input  wire                        w_last,    // sampled on the last plane of a group
    output wire                        out_valid,
    input  wire                        out_ready,
    output wire [N*ACC_W-1:0]          out_data,  // one row per beat, row 0 first
    output wire                        out_last,  // row M - 1
    output wire                        err
);
    localparam TBL = P * (1 << (K-1)) * T_W;  // tables of one row [bit]
    localparam MW  = (M > 1) ? $clog2(M) : 1;

    generate
        if (M < 1)                 begin : g_bad_m    lut_mpgemm_tile_requires_M_at_least_1 stop(); end
        if (N < 1)                 begin : g_bad_n    lut_mpgemm_tile_requires_N_at_least_1 stop(); end
        if (K < 2)                 begin : g_bad_k    lut_mpgemm_tile_requires_K_at_least_2 stop(); end
        if (P < 1)                 begin : g_bad_p    lut_mpgemm_tile_requires_P_at_least_1 stop(); end
        if (W_MAX < 1)             begin : g_bad_w    lut_mpgemm_tile_requires_W_MAX_at_least_1 stop(); end
        if ((1 << PW) <= W_MAX)    begin : g_bad_pw   lut_mpgemm_tile_requires_PW_to_hold_W_MAX stop(); end
        if ((1 << SH_W) < W_MAX)   begin : g_bad_sh   lut_mpgemm_tile_requires_SH_W_to_hold_W_MAX_minus_1 stop(); end
        if (ACC_W < T_W)           begin : g_bad_acc  lut_mpgemm_tile_requires_ACC_W_at_least_T_W stop(); end
        if (P > 1 && ACC_W < T_W + $clog2(P) + 1) begin : g_bad_sum lut_mpgemm_tile_requires_ACC_W_to_hold_a_sum stop(); end
    endgenerate

    localparam [PW-1:0] WIDEST   = W_MAX;
    localparam [PW-1:0] ONE      = 1;
    localparam [MW-1:0] LAST_ROW = M - 1;

    // width in use: an illegal one is clamped and flagged
    wire          zero  = cfg_wbits == {PW{1'b0}};
    wire          wide  = cfg_wbits > WIDEST;
    wire [PW-1:0] wbits = zero ? ONE : wide ? WIDEST : cfg_wbits;

    reg              tv_q;                    // table register is full
    reg [M*TBL-1:0]  tbl_q;
    reg [M*SH_W-1:0] exp_q;
    reg [PW-1:0]     plane_q;
    reg              fresh_q;                 // next plane begins a tile
    reg              s1_valid_q, s1_first_q, s1_last_q;
    reg [M*SH_W-1:0] s1_sh_q;
    reg [MW-1:0]     row_q;
    reg              out_valid_q, err_q;

    wire last_row   = row_q == LAST_ROW;
    wire adv        = !out_valid_q | (out_ready & last_row);
    wire last_plane = plane_q == wbits - ONE;
    wire w_fire     = w_valid & w_ready;
    wire done       = w_fire & last_plane;    // group complete
    wire tbl_fire   = tbl_valid & tbl_ready;

    assign w_ready   = tv_q & adv;
    assign tbl_ready = !tv_q | done;
    assign out_valid = out_valid_q;
    assign out_last  = last_row;
    assign err       = err_q;

    // plane number in the width of the shift amount; the elaboration check keeps it from being cut
    wire [SH_W+PW-1:0] plane_wide = {{SH_W{1'b0}}, plane_q};

    wire [M*N*ACC_W-1:0] acc;
    wire [M*SH_W-1:0]    sh;
    genvar m, n;
    generate
        for (m = 0; m < M; m = m + 1) begin : g_row
            assign sh[m*SH_W +: SH_W] = plane_wide[SH_W-1:0] + exp_q[m*SH_W +: SH_W];
            wire [TBL-1:0] tables = tbl_q[m*TBL +: TBL];
            for (n = 0; n < N; n = n + 1) begin : g_column
                wire [P*K-1:0] codes = w_idx[n*P*K +: P*K];
                if (P == 1) begin : g_one
                    lut_lane #(.K(K), .T_W(T_W), .SH_W(SH_W), .ACC_W(ACC_W)) lane (
                        .clk(clk), .adv(adv), .tbl(tables), .idx(codes),
                        .s1_valid(s1_valid_q), .s1_first(s1_first_q), .s1_sh(s1_sh_q[m*SH_W +: SH_W]),
                        .acc(acc[(m*N + n)*ACC_W +: ACC_W])
                    );
                end else begin : g_sum
                    lut_sum_lane #(.P(P), .K(K), .T_W(T_W), .SH_W(SH_W), .ACC_W(ACC_W)) lane (
                        .clk(clk), .adv(adv), .tbl(tables), .idx(codes),
                        .s1_valid(s1_valid_q), .s1_first(s1_first_q), .s1_sh(s1_sh_q[m*SH_W +: SH_W]),
                        .acc(acc[(m*N + n)*ACC_W +: ACC_W])
                    );
                end
            end
        end
    endgenerate

    reg [N*ACC_W-1:0] row;
    integer r;
    always @* begin
        row = {N*ACC_W{1'b0}};
        for (r = 0; r < M; r = r + 1)
            if (row_q == r) row = row | acc[r*N*ACC_W +: N*ACC_W];
    end
    assign out_data = row;

    always @(posedge clk) begin
        if (tbl_fire) begin
            tbl_q <= tbl_data;
            exp_q <= tbl_exp;
        end
        if (adv) begin
            s1_first_q <= fresh_q;
            s1_last_q  <= last_plane & w_last;
            s1_sh_q    <= sh;
        end
        if (rst) begin
            tv_q        <= 1'b0;
            plane_q     <= {PW{1'b0}};
            fresh_q     <= 1'b1;
            row_q       <= {MW{1'b0}};
            s1_valid_q  <= 1'b0;
            out_valid_q <= 1'b0;
            err_q       <= 1'b0;
        end else begin
            tv_q <= tbl_fire | (tv_q & !done);
            if (w_fire) begin
                plane_q <= last_plane ? {PW{1'b0}} : plane_q + ONE;
                fresh_q <= last_plane & w_last;
            end
            if (adv) begin
                s1_valid_q  <= w_fire;
                out_valid_q <= s1_valid_q & s1_last_q;
            end
            if (out_valid_q & out_ready) row_q <= last_row ? {MW{1'b0}} : row_q + 1'b1;
            if ((tbl_fire | w_fire) & (zero | wide)) err_q <= 1'b1;
        end
    end
endmodule
`default_nettype wire

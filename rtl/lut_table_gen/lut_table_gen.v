// Symmetric table of signed sums of K activations, exact or rounded to Q_W bits with one exponent per table.
// Cycles: interval 1 table, table valid 2 edges after its activations (3 when rounded); stages are elastic.
`default_nettype none
module lut_table_gen #(
    parameter K   = 4,                            // activations per table
    parameter A_W = 8,                            // activation [bit], signed
    parameter T_W = A_W + $clog2(K) + 1,          // exact entry [bit]
    parameter Q   = 0,                            // 1: entries rounded to Q_W bits
    parameter Q_W = 8,                            // rounded entry [bit]
    parameter E_W = 4,                            // exponent [bit]
    parameter O_W = (Q != 0) ? Q_W : T_W          // entry as sent [bit]
) (
    input  wire                      clk,
    input  wire                      rst,
    input  wire                      a_valid,
    output wire                      a_ready,
    input  wire [K*A_W-1:0]          a_data,
    output wire                      tbl_valid,
    input  wire                      tbl_ready,
    output wire [(1<<(K-1))*O_W-1:0] tbl_data,    // entry 0 in the low bits
    output wire [E_W-1:0]            tbl_exp
);
    localparam H       = K / 2;                   // activations of the low half sums
    localparam LOS     = 1 << (H-1);              // low half sums; their negatives follow by symmetry
    localparam HIS     = 1 << (K-1-H);            // high half sums
    localparam LO_W    = A_W + $clog2(H);
    localparam HI_W    = A_W + $clog2(K-H) + 1;
    localparam ENTRIES = 1 << (K-1);
    localparam M_W     = A_W + $clog2(K);         // sum of magnitudes, up to K * 2^(A_W-1)
    localparam E_MAX   = (M_W > Q_W - 1) ? M_W - (Q_W - 1) : 0;

    generate
        if (K < 2)                         begin : g_bad_k  lut_table_gen_requires_K_at_least_2 stop(); end
        if (A_W < 2)                       begin : g_bad_a  lut_table_gen_requires_A_W_at_least_2 stop(); end
        if (T_W != A_W + $clog2(K) + 1)    begin : g_bad_t  lut_table_gen_requires_T_W_equal_A_W_plus_clog2_K_plus_1 stop(); end
        if (O_W != ((Q != 0) ? Q_W : T_W)) begin : g_bad_o  lut_table_gen_requires_O_W_equal_Q_W_if_Q_else_T_W stop(); end
        if (Q != 0 && (1 << E_W) <= E_MAX) begin : g_bad_e  lut_table_gen_requires_E_W_to_hold_the_exponent stop(); end
        if (Q != 0 && Q_W > T_W)           begin : g_bad_q  lut_table_gen_requires_Q_W_at_most_T_W stop(); end
    endgenerate

    reg s1_valid_q, s2_valid_q;
    wire s2_ready;
    wire s1_ready = !s2_valid_q | s2_ready;
    assign a_ready = !s1_valid_q | s1_ready;

    // stage 1: half sums. Low: a[H-1] +- others; high: -a[K-1] +- others
    reg [LOS*LO_W-1:0] lo, lo_q;
    reg [HIS*HI_W-1:0] hi, hi_q;
    reg signed [A_W-1:0]  a;
    reg signed [LO_W-1:0] lo_sum;
    reg signed [HI_W-1:0] hi_sum;
    integer i, j;
    always @* begin
        lo = {LOS*LO_W{1'b0}};
        hi = {HIS*HI_W{1'b0}};
        a  = {A_W{1'b0}};
        lo_sum = {LO_W{1'b0}};
        hi_sum = {HI_W{1'b0}};
        for (i = 0; i < LOS; i = i + 1) begin
            lo_sum = {LO_W{1'b0}};
            for (j = 0; j < H; j = j + 1) begin
                a = a_data[j*A_W +: A_W];
                if (j == H-1 || ((i >> j) & 1) == 1) lo_sum = lo_sum + a;
                else                                 lo_sum = lo_sum - a;
            end
            lo[i*LO_W +: LO_W] = lo_sum;
        end
        for (i = 0; i < HIS; i = i + 1) begin
            hi_sum = {HI_W{1'b0}};
            for (j = H; j < K; j = j + 1) begin
                a = a_data[j*A_W +: A_W];
                if (j < K-1 && ((i >> (j-H)) & 1) == 1) hi_sum = hi_sum + a;
                else                                    hi_sum = hi_sum - a;
            end
            hi[i*HI_W +: HI_W] = hi_sum;
        end
    end

    // stage 2: an entry is a high half sum plus or minus a low one
    reg [ENTRIES*T_W-1:0] full, full_q;
    reg signed [LO_W-1:0] lo_part;
    reg signed [HI_W-1:0] hi_part;
    integer n, low;
    always @* begin
        full = {ENTRIES*T_W{1'b0}};
        lo_part = {LO_W{1'b0}};
        hi_part = {HI_W{1'b0}};
        for (n = 0; n < ENTRIES; n = n + 1) begin
            low = n & (2*LOS - 1);
            hi_part = hi_q[(n >> H)*HI_W +: HI_W];
            if (low >= LOS) begin
                lo_part = lo_q[(low - LOS)*LO_W +: LO_W];
                full[n*T_W +: T_W] = hi_part + lo_part;
            end else begin
                lo_part = lo_q[(LOS - 1 - low)*LO_W +: LO_W];
                full[n*T_W +: T_W] = hi_part - lo_part;
            end
        end
    end

    always @(posedge clk) begin
        if (a_ready) begin
            lo_q <= lo;
            hi_q <= hi;
        end
        if (s1_ready) full_q <= full;
        if (rst) begin
            s1_valid_q <= 1'b0;
            s2_valid_q <= 1'b0;
        end else begin
            if (a_ready)  s1_valid_q <= a_valid;
            if (s1_ready) s2_valid_q <= s1_valid_q;
        end
    end

    generate
        if (Q == 0) begin : g_exact
            assign s2_ready  = tbl_ready;
            assign tbl_valid = s2_valid_q;
            assign tbl_data  = full_q;
            assign tbl_exp   = {E_W{1'b0}};
        end else begin : g_rounded
            lut_table_round #(.ENTRIES(ENTRIES), .K(K), .A_W(A_W), .T_W(T_W), .Q_W(Q_W), .E_W(E_W)) round (
                .clk(clk), .rst(rst), .a_load(a_ready), .a_data(a_data), .s2_load(s1_ready),
                .s2_valid(s2_valid_q), .s2_ready(s2_ready), .full(full_q),
                .tbl_valid(tbl_valid), .tbl_ready(tbl_ready), .tbl_data(tbl_data), .tbl_exp(tbl_exp)
            );
        end
    endgenerate
endmodule
`default_nettype wire

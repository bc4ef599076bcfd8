// Dot products of L activations with NO rows of ternary weights: add, subtract or skip, no multiplier.
// Cycles: interval 1 beat, sums valid 2 edges after their last beat; a stalled output stalls the beats.
`default_nettype none
module ternary_acc #(
    parameter L     = 20,                     // activations per beat; a multiple of 5 when packed
    parameter NO    = 4,                      // outputs that share the activations
    parameter A_W   = 8,                      // activation [bit], signed
    parameter PACK  = 0,                      // 0: two bits a weight, 1: five weights a byte
    parameter WB    = (PACK != 0) ? 8*(L/5) : 2*L, // weights of one output [bit]
    parameter ACC_W = 32                      // accumulator [bit], wraps
) (
    input  wire                clk,
    input  wire                rst,
    input  wire                s_valid,
    output wire                s_ready,
    input  wire [L*A_W-1:0]    s_a,
    input  wire [NO*WB-1:0]    s_w,
    input  wire                s_last,
    output wire                out_valid,
    input  wire                out_ready,
    output wire [NO*ACC_W-1:0] out_data,
    output wire                err
);
    localparam S_W = A_W + $clog2(L + 1);     // holds L times the negated lowest activation
    localparam [S_W-1:0] OFFSET = -(L << (A_W-1));

    generate
        if (L < 1)       begin : g_bad_l    ternary_acc_requires_L_at_least_1 stop(); end
        if (NO < 1)      begin : g_bad_no   ternary_acc_requires_NO_at_least_1 stop(); end
        if (A_W < 2)     begin : g_bad_a    ternary_acc_requires_A_W_at_least_2 stop(); end
        if (PACK != 0 && L % 5 != 0)
                         begin : g_bad_pack ternary_acc_requires_L_a_multiple_of_5_if_PACK stop(); end
        if (WB != ((PACK != 0) ? 8*(L/5) : 2*L))
                         begin : g_bad_wb   ternary_acc_requires_WB_equal_8_L_over_5_if_PACK_else_2_L stop(); end
        if (ACC_W < S_W) begin : g_bad_acc  ternary_acc_requires_ACC_W_at_least_A_W_plus_clog2_of_L_plus_1 stop(); end
    endgenerate

    // weights as two bits {negative, not zero}; 10 is illegal and counts as 0
    wire [NO*L*2-1:0] trits;
    wire              illegal;
    genvar g;
    generate
        if (PACK != 0) begin : g_packed
            wire [NO*(L/5)-1:0] bad;
            for (g = 0; g < NO*(L/5); g = g + 1) begin : g_byte
                trit_decode5 decode (.code(s_w[g*8 +: 8]), .trits(trits[g*10 +: 10]), .illegal(bad[g]));
            end
            assign illegal = |bad;
        end else begin : g_plain
            wire [NO*L-1:0] bad;
            for (g = 0; g < NO*L; g = g + 1) begin : g_code
                assign bad[g] = s_w[2*g + 1] & !s_w[2*g];
            end
            assign trits   = s_w;
            assign illegal = |bad;
        end
    endgenerate

    // -a = ~a + 1: the + 1 is one more bit to add. Terms are added with the sign bit inverted, as a + 2^(A_W-1), which
    // spares their sign extension; the sum starts at what takes the L offsets off again.
    reg [A_W-1:0]    term;
    reg [S_W-1:0]    dot;
    reg [NO*S_W-1:0] dots;
    reg              on, neg;
    integer o, i;
    always @* begin
        dots = {NO*S_W{1'b0}};
        term = {A_W{1'b0}};
        on   = 1'b0;
        neg  = 1'b0;
        for (o = 0; o < NO; o = o + 1) begin
            dot = OFFSET;
            for (i = 0; i < L; i = i + 1) begin
                on   = trits[2*(o*L + i)];
                neg  = trits[2*(o*L + i) + 1] & on;
                term = (s_a[i*A_W +: A_W] ^ {A_W{neg}}) & {A_W{on}};
                dot  = dot + {!term[A_W-1], term[A_W-2:0]} + neg;
            end
            dots[o*S_W +: S_W] = dot;
        end
    end

    reg [NO*S_W-1:0]   dots_q;
    reg [NO*ACC_W-1:0] acc_q;
    reg                s1_valid_q, s1_last_q, fresh_q, out_valid_q, err_q;

    wire adv = !out_valid_q | out_ready;
    assign s_ready   = adv;
    assign out_valid = out_valid_q;
    assign out_data  = acc_q;
    assign err       = err_q;

    reg signed [S_W-1:0] part;                // a sum of stage 1 as it is extended
    reg [ACC_W-1:0]      wide;
    reg [NO*ACC_W-1:0]   sums;
    integer n;
    always @* begin
        sums = {NO*ACC_W{1'b0}};
        part = {S_W{1'b0}};
        wide = {ACC_W{1'b0}};
        for (n = 0; n < NO; n = n + 1) begin
            part = dots_q[n*S_W +: S_W];
            wide = part;
            sums[n*ACC_W +: ACC_W] = (fresh_q ? {ACC_W{1'b0}} : acc_q[n*ACC_W +: ACC_W]) + wide;
        end
    end

    always @(posedge clk) begin
        if (adv) begin
            dots_q    <= dots;
            s1_last_q <= s_last;
            if (s1_valid_q) acc_q <= sums;
        end
        if (rst) begin
            s1_valid_q  <= 1'b0;
            out_valid_q <= 1'b0;
            fresh_q     <= 1'b1;
            err_q       <= 1'b0;
        end else if (adv) begin
            s1_valid_q  <= s_valid;
            out_valid_q <= s1_valid_q & s1_last_q;
            if (s1_valid_q) fresh_q <= s1_last_q;
            if (s_valid & illegal) err_q <= 1'b1;
        end
    end
endmodule
`default_nettype wire

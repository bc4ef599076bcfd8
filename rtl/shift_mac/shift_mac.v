// Dot product with power-of-two weights that have no zero: each product is a shift and a sign, of an integer or of FP16.
// Cycles: interval 1 beat, sum valid 2 edges after its last beat; a stalled output stalls the beats.
`default_nettype none
module shift_mac #(
    parameter FP    = 0,                      // 1: FP16 activations
    parameter L     = 16,                     // products per beat
    parameter A_W   = FP ? 16 : 8,            // activation [bit], signed; 16 for FP16
    parameter B     = 3,                      // weight {sign, exponent} [bit], 2 to 4
    parameter ACC_W = 32                      // accumulator [bit]; integers wrap, FP16: holds 2^(ACC_W-15) / L beats
) (
    input  wire             clk,
    input  wire             rst,
    input  wire             s_valid,
    output wire             s_ready,
    input  wire [L*A_W-1:0] s_a,
    input  wire [L*B-1:0]   s_w,
    input  wire [L-1:0]     s_mask,           // 0: padding lane, since no weight is zero
    input  wire             s_last,
    output wire             out_valid,
    input  wire             out_ready,
    output wire [ACC_W-1:0] out_data,
    output wire [4:0]       out_exp,          // FP16: value = data * 2^(exp - 28); integers: 0
    output wire             err               // FP16: a product above 65504, an infinity or NaN came in
);
    // integers: holds L times the negated lowest product; FP16: L aligned significands with 3 more bits and a sign
    localparam S_W = FP ? 15 + $clog2(L) : A_W + (1 << (B-1)) - 1 + $clog2(L + 1);

    generate
        if (L < 1)            begin : g_bad_l   shift_mac_requires_L_at_least_1 stop(); end
        if (A_W < 2)          begin : g_bad_a   shift_mac_requires_A_W_at_least_2 stop(); end
        if (B < 2 || B > 4)   begin : g_bad_b   shift_mac_requires_B_from_2_to_4 stop(); end
        if (ACC_W < S_W)      begin : g_bad_acc shift_mac_requires_ACC_W_at_least_the_width_of_a_beat stop(); end
        if (FP && A_W != 16)  begin : g_bad_fp  shift_mac_requires_A_W_16_for_FP16 stop(); end
    endgenerate

    reg [S_W-1:0]   dot_q;
    reg [ACC_W-1:0] acc_q;
    reg             s1_valid_q, s1_last_q, fresh_q, out_valid_q;

    wire adv = !out_valid_q | out_ready;
    wire [S_W-1:0]        dot;
    wire signed [S_W-1:0] part = dot_q;
    wire [ACC_W-1:0]      wide = part;        // sign-extends
    wire [ACC_W-1:0]      base = fresh_q ? {ACC_W{1'b0}} : acc_q;
    wire [ACC_W-1:0]      next;
    assign s_ready   = adv;
    assign out_valid = out_valid_q;
    assign out_data  = acc_q;

    generate
        if (FP) begin : g_fp16
            wire [4:0] dot_exp;
            wire       bad;
            reg  [4:0] dot_exp_q, exp_q;
            reg        err_q;
            shift_fp16_dot #(.L(L), .B(B), .S_W(S_W)) products (
                .a(s_a), .w(s_w), .mask(s_mask), .sum(dot), .exp(dot_exp), .bad(bad));

            // the operand with the smaller exponent is shifted, then added; nothing is normalised
            wire [4:0]              base_exp = exp_q & {5{!fresh_q}};
            wire                    above = dot_exp_q > base_exp;
            wire                    lead  = above | ((|dot_exp_q) & (base == {ACC_W{1'b0}}));
            wire [4:0]              away  = above ? dot_exp_q - base_exp : base_exp - dot_exp_q;
            wire [ACC_W-1:0]        hi    = lead ? wide : base;
            wire signed [ACC_W-1:0] lo    = lead ? base : wide;
            wire [ACC_W-1:0]        far   = lo >>> away;
            wire                    lost  = |(lo & ~({ACC_W{1'b1}} << away));
            assign next    = hi + {far[ACC_W-1:1], far[0] | lost};
            assign out_exp = exp_q;
            assign err     = err_q;
            always @(posedge clk) begin
                if (adv) dot_exp_q <= dot_exp;
                if (adv & s1_valid_q) exp_q <= lead ? dot_exp_q : base_exp;
                if (rst) err_q <= 1'b0;
                else if (s_valid & adv & bad) err_q <= 1'b1;
            end
        end else begin : g_int
            shift_int_dot #(.L(L), .A_W(A_W), .B(B), .S_W(S_W)) products (.a(s_a), .w(s_w), .mask(s_mask), .sum(dot));
            assign next    = base + wide;
            assign out_exp = 5'd0;
            assign err     = 1'b0;
        end
    endgenerate

    always @(posedge clk) begin
        if (adv) begin
            dot_q     <= dot;
            s1_last_q <= s_last;
            if (s1_valid_q) acc_q <= next;
        end
        if (rst) begin
            s1_valid_q  <= 1'b0;
            out_valid_q <= 1'b0;
            fresh_q     <= 1'b1;
        end else if (adv) begin
            s1_valid_q  <= s_valid;
            out_valid_q <= s1_valid_q & s1_last_q;
            if (s1_valid_q) fresh_q <= s1_last_q;
        end
    end
endmodule
`default_nettype wire

// Dot product with power-of-two weights that have no zero: each product is a shift and a sign.
// Cycles: interval 1 beat, sum valid 2 edges after its last beat; a stalled output stalls the beats.
`default_nettype none
module shift_mac #(
    parameter L     = 16,                     // products per beat
    parameter A_W   = 8,                      // activation [bit], signed
    parameter B     = 3,                      // weight {sign, exponent} [bit], 2 to 4
    parameter ACC_W = 32                      // accumulator [bit], wraps
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
    output wire [ACC_W-1:0] out_data
);
    localparam E_MAX = (1 << (B-1)) - 1;      // largest exponent
    localparam T_W   = A_W + E_MAX;           // product
    localparam S_W   = T_W + $clog2(L + 1);   // holds L times the negated lowest product
    localparam [S_W-1:0] OFFSET = -(L << (T_W-1));

    generate
        if (L < 1)          begin : g_bad_l   shift_mac_requires_L_at_least_1 stop(); end
        if (A_W < 2)        begin : g_bad_a   shift_mac_requires_A_W_at_least_2 stop(); end
        if (B < 2 || B > 4) begin : g_bad_b   shift_mac_requires_B_from_2_to_4 stop(); end
        if (ACC_W < S_W)    begin : g_bad_acc shift_mac_requires_ACC_W_at_least_the_width_of_a_beat stop(); end
    endgenerate

    // -(a << e) = (~a << e, filled with ones) + 1: inverted where it is narrow, the + 1 is one more bit to add.
    // The shift goes down from the largest exponent, by E_MAX - e = ~e. Terms are added with the sign bit inverted,
    // as t + 2^(T_W-1), which spares their sign extension; the sum starts at what takes the L offsets off again.
    // A masked lane is 0; its negation, all ones plus one, is 0 as well
    reg [A_W-1:0]        x;
    reg                  neg;
    reg [B-2:0]          down;
    reg signed [T_W-1:0] term;
    reg [S_W-1:0]        dot;
    integer i;
    always @* begin
        dot  = OFFSET;
        x    = {A_W{1'b0}};
        neg  = 1'b0;
        down = {B-1{1'b0}};
        term = {T_W{1'b0}};
        for (i = 0; i < L; i = i + 1) begin
            neg  = s_w[i*B + B-1];
            x    = (s_a[i*A_W +: A_W] & {A_W{s_mask[i]}}) ^ {A_W{neg}};
            down = ~s_w[i*B +: B-1];
            term = {x, {E_MAX{neg}}};
            term = term >>> down;
            dot  = dot + {!term[T_W-1], term[T_W-2:0]} + neg;
        end
    end

    reg [S_W-1:0]   dot_q;
    reg [ACC_W-1:0] acc_q;
    reg             s1_valid_q, s1_last_q, fresh_q, out_valid_q;

    wire adv = !out_valid_q | out_ready;
    wire signed [S_W-1:0] part = dot_q;
    wire [ACC_W-1:0]      wide = part;        // sign-extends
    wire [ACC_W-1:0]      base = fresh_q ? {ACC_W{1'b0}} : acc_q;
    assign s_ready   = adv;
    assign out_valid = out_valid_q;
    assign out_data  = acc_q;

    always @(posedge clk) begin
        if (adv) begin
            dot_q     <= dot;
            s1_last_q <= s_last;
            if (s1_valid_q) acc_q <= base + wide;
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

// Baseline: FP16 products summed in an accumulator with 8-bit exponent and AM-bit fraction, one per cycle.
// Cycles: interval 1 pair, sum valid 2 edges after its last pair; a stalled output stalls the pairs.
`default_nettype none
module base_fp16_mac #(
    parameter AM = 23                         // fraction of the accumulator [bit]; 23: binary32
) (
    input  wire            clk,
    input  wire            rst,
    input  wire            s_valid,
    output wire            s_ready,
    input  wire [15:0]     s_a,
    input  wire [15:0]     s_w,
    input  wire            s_last,
    output wire            out_valid,
    input  wire            out_ready,
    output wire [AM+8:0]   out_data,          // {sign, exponent, fraction}
    output wire            err                // an infinity or NaN came in
);
    localparam W  = (AM + 1 > 22) ? AM + 1 : 22;  // holds both significands, leading one at the top
    localparam F  = W + 3;                        // with guard, round and sticky bit
    localparam LZ = $clog2(F + 2);

    generate
        if (AM < 7)  begin : g_bad_am base_fp16_mac_requires_AM_at_least_7 stop(); end
        if (AM > 40) begin : g_top_am base_fp16_mac_requires_AM_at_most_40 stop(); end
    endgenerate

    reg s1_valid_q, s1_last_q, fresh_q, out_valid_q, err_q;
    wire adv = !out_valid_q | out_ready;
    assign s_ready   = adv;
    assign out_valid = out_valid_q;
    assign err       = err_q;

    // operands: infinities and NaNs read as 65504, subnormals with exponent 1 and no hidden bit
    wire        a_bad = &s_a[14:10];
    wire        w_bad = &s_w[14:10];
    wire [10:0] a_m   = {|s_a[14:10], s_a[9:0] | {10{a_bad}}};
    wire [10:0] w_m   = {|s_w[14:10], s_w[9:0] | {10{w_bad}}};
    wire [4:0]  a_e   = {s_a[14:11], (s_a[10] | ~(|s_a[14:10])) & ~a_bad};
    wire [4:0]  w_e   = {s_w[14:11], (s_w[10] | ~(|s_w[14:10])) & ~w_bad};
    wire [21:0] prod  = a_m * w_m;

    // product with its leading one moved to the top
    reg [21:0] norm;
    reg [4:0]  lead;
    integer i;
    always @* begin
        norm = prod;
        lead = 5'd0;
        for (i = 4; i >= 0; i = i - 1)
            if ((norm & ~(22'h3fffff >> (1 << i))) == 22'd0) begin
                norm = norm << (1 << i);
                lead[i] = 1'b1;
            end
    end

    // value = p_m / 2^21 * 2^(p_e - 61): exponent biased by 32
    reg [21:0] p_m_q;
    reg [6:0]  p_e_q;
    reg        p_s_q;

    reg            acc_s_q;
    reg [7:0]      acc_e_q;
    reg [AM-1:0]   acc_f_q;
    assign out_data = {acc_s_q, acc_e_q, acc_f_q};

    // the larger exponent leads; a zero has no leading one and gives way
    wire           base_nz = !fresh_q & (acc_e_q != 8'd0);
    wire [7:0]     p_e     = p_m_q[21] ? {1'b0, p_e_q} + 8'd66 : 8'd0;
    wire [7:0]     b_e     = base_nz ? acc_e_q : 8'd0;
    wire [W-1:0]   p_w     = {p_m_q, {(W-22){1'b0}}};
    wire [W-1:0]   b_w     = base_nz ? {1'b1, acc_f_q, {(W-AM-1){1'b0}}} : {W{1'b0}};
    wire           swap    = p_e > b_e;
    wire [7:0]     hi_e    = swap ? p_e : b_e;
    wire [7:0]     d       = swap ? p_e - b_e : b_e - p_e;
    wire [F-1:0]   hi_m    = {swap ? p_w : b_w, 3'b000};
    wire [F-1:0]   lo_m    = {swap ? b_w : p_w, 3'b000};
    wire           hi_s    = swap ? p_s_q : acc_s_q;
    wire           lo_s    = swap ? acc_s_q : p_s_q;
    wire [F-1:0]   lo_far  = lo_m >> d;
    wire           lost    = |(lo_m & ~({F{1'b1}} << d));
    wire [F-1:0]   lo_al   = {lo_far[F-1:1], lo_far[0] | lost};
    wire           sub     = base_nz & (hi_s ^ lo_s);
    wire [F:0]     sum     = {1'b0, hi_m} + ({1'b0, lo_al} ^ {(F+1){sub}}) + {{F{1'b0}}, sub};
    wire           flip    = sum[F] & sub;        // equal exponents, the smaller led
    wire [F:0]     mag     = flip ? ~sum + 1'b1 : sum;
    wire           sign    = (base_nz ? hi_s : p_s_q) ^ flip;

    // leading one to the top of F+1 bits, then round half to even at AM+1 bits
    reg [F:0]    top;
    reg [LZ-1:0] shift;
    integer      k;
    always @* begin
        top = mag;
        shift = {LZ{1'b0}};
        for (k = LZ - 1; k >= 0; k = k - 1)
            if ((top & ~({(F+1){1'b1}} >> (1 << k))) == {(F+1){1'b0}}) begin
                top = top << (1 << k);
                shift[k] = 1'b1;
            end
    end
    wire            zero  = !top[F];
    wire            half  = top[F-AM-1];
    wire            rest  = |top[F-AM-2:0];
    wire            up    = half & (rest | top[F-AM]);
    wire [AM+1:0]   round = {1'b0, top[F:F-AM]} + {{(AM+1){1'b0}}, up};
    wire [7:0]      new_e = hi_e + 8'd1 - {{(8-LZ){1'b0}}, shift} + {7'd0, round[AM+1]};

    always @(posedge clk) begin
        if (adv) begin
            p_m_q     <= norm;
            p_e_q     <= {2'b00, a_e} + {2'b00, w_e} + 7'd32 - {2'b00, lead};
            p_s_q     <= s_a[15] ^ s_w[15];
            s1_last_q <= s_last;
            if (s1_valid_q) begin
                acc_s_q <= sign & !zero;
                acc_e_q <= zero ? 8'd0 : new_e;
                acc_f_q <= round[AM-1:0] & {AM{!round[AM+1] & !zero}};
            end
        end
        if (rst) begin
            s1_valid_q  <= 1'b0;
            out_valid_q <= 1'b0;
            fresh_q     <= 1'b1;
            err_q       <= 1'b0;
        end else begin
            if (adv) begin
                s1_valid_q  <= s_valid;
                out_valid_q <= s1_valid_q & s1_last_q;
                if (s1_valid_q) fresh_q <= s1_last_q;
            end
            if (s_valid & adv & (a_bad | w_bad)) err_q <= 1'b1;
        end
    end
endmodule
`default_nettype wire

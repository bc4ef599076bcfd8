// Baseline: dot product with multipliers, L products per beat, accumulated until last.
// Cycles: interval 1 beat, sum valid 2 edges after its last beat; a stalled output stalls the beats.
`default_nettype none
module base_mac_dp #(
    parameter L     = 4,                      // products per beat
    parameter A_W   = 8,                      // activation [bit], signed
    parameter B_W   = 8,                      // weight [bit], signed; W + 1 for codes with a zero point
    parameter ACC_W = 32                      // accumulator [bit], wraps
) (
    input  wire             clk,
    input  wire             rst,
    input  wire             s_valid,
    output wire             s_ready,
    input  wire [L*A_W-1:0] s_a,
    input  wire [L*B_W-1:0] s_w,
    input  wire             s_last,
    output wire             out_valid,
    input  wire             out_ready,
    output wire [ACC_W-1:0] out_data
);
    localparam S_W = A_W + B_W + $clog2(L);

    generate
        if (L < 1)       begin : g_bad_l   base_mac_dp_requires_L_at_least_1 stop(); end
        if (A_W < 2)     begin : g_bad_a   base_mac_dp_requires_A_W_at_least_2 stop(); end
        if (B_W < 2)     begin : g_bad_b   base_mac_dp_requires_B_W_at_least_2 stop(); end
        if (ACC_W < S_W) begin : g_bad_acc base_mac_dp_requires_ACC_W_at_least_A_W_plus_B_W_plus_clog2_L stop(); end
    endgenerate

    reg signed [A_W-1:0]     a;
    reg signed [B_W-1:0]     b;
    reg signed [A_W+B_W-1:0] p;
    reg signed [S_W-1:0]     dot;
    integer i;
    always @* begin
        dot = {S_W{1'b0}};
        for (i = 0; i < L; i = i + 1) begin
            a = s_a[i*A_W +: A_W];
            b = s_w[i*B_W +: B_W];
            p = a * b;
            dot = dot + p;
        end
    end

    reg signed [S_W-1:0]   dot_q;
    reg [ACC_W-1:0]        acc_q;
    reg                    s1_valid_q, s1_last_q, fresh_q, out_valid_q;

    wire adv = !out_valid_q | out_ready;
    wire signed [ACC_W-1:0] wide = dot_q;
    wire        [ACC_W-1:0] base = fresh_q ? {ACC_W{1'b0}} : acc_q;
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

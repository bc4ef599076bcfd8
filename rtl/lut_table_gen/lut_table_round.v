// Rounding stage of lut_table_gen: exponent from the sum of magnitudes, entries rounded half to even and clamped.
// Cycles: one more edge; the exponent's stages run beside those of the table.
`default_nettype none
module lut_table_round #(
    parameter ENTRIES = 8,
    parameter K       = 4,
    parameter A_W     = 8,
    parameter T_W     = 11,
    parameter Q_W     = 8,
    parameter E_W     = 4
) (
    input  wire                   clk,
    input  wire                   rst,
    input  wire                   a_load,      // stage 1 takes activations
    input  wire [K*A_W-1:0]       a_data,
    input  wire                   s2_load,     // stage 2 takes the full table
    input  wire                   s2_valid,
    output wire                   s2_ready,
    input  wire [ENTRIES*T_W-1:0] full,
    output wire                   tbl_valid,
    input  wire                   tbl_ready,
    output wire [ENTRIES*Q_W-1:0] tbl_data,
    output wire [E_W-1:0]         tbl_exp
);
    localparam M_W = A_W + $clog2(K);             // K * 2^(A_W-1) at most
    localparam signed [T_W-1:0] TOP = (1 << (Q_W-1)) - 1;

    // the largest entry of a symmetric table is the sum of the magnitudes: no comparison tree
    reg [M_W-1:0] sum, sum_q;
    reg [A_W-1:0] mag;
    integer j;
    always @* begin
        sum = {M_W{1'b0}};
        mag = {A_W{1'b0}};
        for (j = 0; j < K; j = j + 1) begin
            mag = a_data[j*A_W +: A_W] ^ {A_W{a_data[j*A_W + A_W - 1]}};
            sum = sum + mag + a_data[j*A_W + A_W - 1];
        end
    end

    // exponent: bits of the sum beyond Q_W - 1
    reg [E_W-1:0] e, e_q, exp_q;
    integer b;
    always @* begin
        e = {E_W{1'b0}};
        for (b = Q_W - 1; b < M_W; b = b + 1)
            if (sum_q[b]) e = b - (Q_W - 2);
    end

    // each entry with one more bit below: after the shift that bit is the half
    reg [ENTRIES*Q_W-1:0] q, q_q;
    reg signed [T_W:0]    entry, moved;
    reg        [T_W:0]    lost;
    reg signed [T_W-1:0]  value;
    integer n;
    always @* begin
        q = {ENTRIES*Q_W{1'b0}};
        entry = {(T_W+1){1'b0}};
        moved = {(T_W+1){1'b0}};
        lost  = {(T_W+1){1'b0}};
        value = {T_W{1'b0}};
        for (n = 0; n < ENTRIES; n = n + 1) begin
            entry = {full[n*T_W +: T_W], 1'b0};
            moved = entry >>> e_q;
            lost  = entry & ~({(T_W+1){1'b1}} << e_q);
            value = moved[T_W:1];
            if (moved[0] & (moved[1] | (|lost))) value = value + 1'b1;
            if (value > TOP)  value = TOP;
            if (value < -TOP) value = -TOP;
            q[n*Q_W +: Q_W] = value[Q_W-1:0];
        end
    end

    reg valid_q;
    assign s2_ready  = !valid_q | tbl_ready;
    assign tbl_valid = valid_q;
    assign tbl_data  = q_q;
    assign tbl_exp   = exp_q;

    always @(posedge clk) begin
        if (a_load)  sum_q <= sum;
        if (s2_load) e_q   <= e;
        if (s2_ready) begin
            q_q   <= q;
            exp_q <= e_q;
        end
        if (rst)           valid_q <= 1'b0;
        else if (s2_ready) valid_q <= s2_valid;
    end
endmodule
`default_nettype wire

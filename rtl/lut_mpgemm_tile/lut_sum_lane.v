// Lookup lane over P tables of one bit-plane: select and conditionally negate each, sum up, shift, accumulate.
// One shifter and one accumulator serve P lookups. Cycles: stage 1 registers the sum, stage 2 is the accumulator; adv
// freezes both.
`default_nettype none
module lut_sum_lane #(
    parameter P     = 2,                      // tables
    parameter K     = 4,                      // activations per table
    parameter T_W   = 11,                     // table entry [bit]
    parameter SH_W  = 3,                      // shift amount [bit]
    parameter ACC_W = 32                      // accumulator [bit], wraps
) (
    input  wire                        clk,
    input  wire                        adv,       // pipeline moves
    input  wire [P*(1<<(K-1))*T_W-1:0] tbl,       // table 0, entry 0 in the low bits
    input  wire [P*K-1:0]              idx,       // {negate, entry} of each table
    input  wire                        s1_valid,  // stage 1 holds a plane
    input  wire                        s1_first,  // it is the first of a result
    input  wire [SH_W-1:0]             s1_sh,
    output wire [ACC_W-1:0]            acc
);
    localparam ENTRIES = 1 << (K-1);
    localparam S_W     = T_W + $clog2(P) + 1;     // the lowest entry, negated, is one more than an entry holds

    reg signed [S_W-1:0]   sum_q;
    reg        [ACC_W-1:0] acc_q;

    reg [S_W-1:0] total;
    reg [T_W-1:0] entry;
    integer p, i;
    always @* begin
        total = {S_W{1'b0}};
        entry = {T_W{1'b0}};
        for (p = 0; p < P; p = p + 1) begin
            entry = {T_W{idx[p*K + K-1]}};
            for (i = 0; i < ENTRIES; i = i + 1)
                if (idx[p*K +: K-1] == i[K-2:0]) entry = entry ^ tbl[(p*ENTRIES + i)*T_W +: T_W];
            // -v = ~v + 1
            total = total + {{(S_W-T_W){entry[T_W-1]}}, entry} + {{(S_W-1){1'b0}}, idx[p*K + K-1]};
        end
    end

    wire signed [ACC_W-1:0] wide = sum_q;         // sign-extends
    wire        [ACC_W-1:0] base = s1_first ? {ACC_W{1'b0}} : acc_q;

    always @(posedge clk)
        if (adv) begin
            sum_q <= total;
            if (s1_valid) acc_q <= base + (wide << s1_sh);
        end

    assign acc = acc_q;
endmodule
`default_nettype wire

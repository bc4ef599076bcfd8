// Lane of a lookup dot product: select, conditionally negate, shift, accumulate. Holds no table.
// Cycles: stage 1 registers the entry, stage 2 is the accumulator; adv freezes both.
`default_nettype none
module lut_lane #(
    parameter K     = 4,                      // activations per table
    parameter T_W   = 11,                     // table entry [bit]
    parameter SH_W  = 3,                      // shift amount [bit]
    parameter ACC_W = 32                      // accumulator [bit], wraps
) (
    input  wire                        clk,
    input  wire                        adv,       // pipeline moves
    input  wire [(1<<(K-1))*T_W-1:0]   tbl,       // entry 0 in the low bits
    input  wire [K-1:0]                idx,       // {negate, entry}
    input  wire                        s1_valid,  // stage 1 holds a plane
    input  wire                        s1_first,  // it is the first of a result
    input  wire [SH_W-1:0]             s1_sh,
    output wire [ACC_W-1:0]            acc
);
    localparam ENTRIES = 1 << (K-1);
    localparam FILL    = (1 << SH_W) - 1;     // largest shift
    localparam WIDE    = ACC_W + FILL;

    reg [T_W-1:0]   val_q;
    reg             neg_q;
    reg [ACC_W-1:0] acc_q;

    reg [T_W-1:0] entry;
    integer i;
    always @* begin
        entry = {T_W{1'b0}};
        for (i = 0; i < ENTRIES; i = i + 1)
            if (idx[K-2:0] == i[K-2:0]) entry = entry | tbl[i*T_W +: T_W];
    end

    // -(v << s) = (~v << s, filled with ones) + 1: inverted before the shift, where it is narrow;
    // the + 1 comes in as the carry of one more bit below
    wire signed [T_W+FILL-1:0] flipped = {val_q ^ {T_W{neg_q}}, {FILL{neg_q}}};
    wire        [WIDE-1:0]     wide    = flipped;      // sign-extends
    wire        [WIDE-1:0]     shifted = wide << s1_sh;
    wire        [ACC_W-1:0]    base    = s1_first ? {ACC_W{1'b0}} : acc_q;
    wire        [ACC_W:0]      sum     = {base, 1'b1} + {shifted[FILL +: ACC_W], neg_q};

    always @(posedge clk)
        if (adv) begin
            val_q <= entry;
            neg_q <= idx[K-1];
            if (s1_valid) acc_q <= sum[ACC_W:1];
        end

    assign acc = acc_q;
endmodule
`default_nettype wire

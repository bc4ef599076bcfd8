// Sum of integer activations shifted and signed by their weights. Combinational.
`default_nettype none
module shift_int_dot #(
    parameter L   = 16,                       // products
    parameter A_W = 8,                        // activation [bit], signed
    parameter B   = 3,                        // weight {sign, exponent} [bit]
    parameter S_W = 20                        // sum [bit]
) (
    input  wire [L*A_W-1:0] a,
    input  wire [L*B-1:0]   w,
    input  wire [L-1:0]     mask,             // 0: the lane gives nothing
    output wire [S_W-1:0]   sum
);
    localparam E_MAX = (1 << (B-1)) - 1;      // largest exponent
    localparam T_W   = A_W + E_MAX;           // product
    localparam [S_W-1:0] OFFSET = -(L << (T_W-1));

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
            neg  = w[i*B + B-1];
            x    = (a[i*A_W +: A_W] & {A_W{mask[i]}}) ^ {A_W{neg}};
            down = ~w[i*B +: B-1];
            term = {x, {E_MAX{neg}}};
            term = term >>> down;
            dot  = dot + {!term[T_W-1], term[T_W-2:0]} + neg;
        end
    end
    assign sum = dot;
endmodule
`default_nettype wire

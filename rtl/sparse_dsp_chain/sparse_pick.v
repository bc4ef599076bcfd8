// Picks one activation out of an N:M sparse window, by the index of its weight. Combinational.
`default_nettype none
module sparse_pick #(
    parameter M  = 4,                         // positions of a block
    parameter XW = 2                          // index of a position [bit]
) (
    input  wire          one,                 // 1:M, else 2:M
    input  wire          dense,               // M:M, the index does not count
    input  wire [XW-1:0] x,
    input  wire [M*8-1:0] own,                // block of the lane at 1:M
    input  wire [M*8-1:0] pair,               // block of two lanes at 2:M
    input  wire [7:0]    straight,            // activation of the lane when dense
    output wire [7:0]    a
);
    wire [M*8-1:0] block = one ? own : pair;
    assign a = dense ? straight : block[x*8 +: 8];
endmodule
`default_nettype wire

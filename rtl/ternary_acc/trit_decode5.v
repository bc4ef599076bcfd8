// Five trits from a byte: code = sum of (t_k + 1) 3^k, k = 0..4; each trit as two bits 00 = 0, 01 = +1, 11 = -1.
// Combinational. Codes above 242 stand for nothing: all five read as 0, flagged.
`default_nettype none
module trit_decode5 (
    input  wire [7:0] code,
    output wire [9:0] trits,                      // trit of 3^0 in the low bits
    output wire       illegal
);
    // digits from the top, by comparison and subtraction; what remains after each gets narrower
    wire [1:0] d4 = (code >= 8'd162) ? 2'd2 : (code >= 8'd81) ? 2'd1 : 2'd0;
    wire [7:0] r4 = code - (d4[1] ? 8'd162 : d4[0] ? 8'd81 : 8'd0);
    wire [6:0] m4 = r4[6:0];                      // 0..80 for codes that are legal
    wire [1:0] d3 = (m4 >= 7'd54) ? 2'd2 : (m4 >= 7'd27) ? 2'd1 : 2'd0;
    wire [6:0] r3 = m4 - (d3[1] ? 7'd54 : d3[0] ? 7'd27 : 7'd0);
    wire [4:0] m3 = r3[4:0];                      // 0..26
    wire [1:0] d2 = (m3 >= 5'd18) ? 2'd2 : (m3 >= 5'd9) ? 2'd1 : 2'd0;
    wire [4:0] r2 = m3 - (d2[1] ? 5'd18 : d2[0] ? 5'd9 : 5'd0);
    wire [3:0] m2 = r2[3:0];                      // 0..8
    wire [1:0] d1 = (m2 >= 4'd6) ? 2'd2 : (m2 >= 4'd3) ? 2'd1 : 2'd0;
    wire [3:0] r1 = m2 - (d1[1] ? 4'd6 : d1[0] ? 4'd3 : 4'd0);
    wire [1:0] d0 = r1[1:0];

    wire [9:0] digits = {d4, d3, d2, d1, d0};
    assign illegal = code > 8'd242;

    genvar k;
    generate
        for (k = 0; k < 5; k = k + 1) begin : g_trit
            assign trits[2*k +: 2] = {2{!illegal}} & {!(|digits[2*k +: 2]), !digits[2*k]};
        end
    endgenerate
endmodule
`default_nettype wire

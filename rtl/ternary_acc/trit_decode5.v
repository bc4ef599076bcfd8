// Five trits from a byte: code = sum of (t_k + 1) 3^k, k = 0..4; each trit as two bits 00 = 0, 01 = +1, 11 = -1.
// Combinational. Codes above 242 stand for nothing: all five read as 0, flagged.
`default_nettype none
module trit_decode5 (
    input  wire [7:0] code,
    output wire [9:0] trits,                      // trit of 3^0 in the low bits
    output wire       illegal
);
    // the upper two digits from eight thresholds; only five bits of what remains below 27 are subtracted
    wire [8:0] above;                             // code >= 27 (j + 1)
    reg  [4:0] offset;
    genvar j, k;
    integer i;
    generate
        for (j = 0; j < 9; j = j + 1) begin : g_above
            assign above[j] = code >= 27*(j + 1);
        end
    endgenerate
    always @* begin
        offset = 5'd0;
        for (i = 0; i < 8; i = i + 1)
            if (above[i]) offset = 27*(i + 1);
    end
    assign illegal = above[8];

    // digit 3^k is 2, is not 0
    wire [4:0] two, some;
    assign two[4]  = above[5];
    assign some[4] = above[2];
    assign two[3]  = above[7] | (above[4] & !above[5]) | (above[1] & !above[2]);
    assign some[3] = above[6] | (above[3] & !above[5]) | (above[0] & !above[2]);
    wire [4:0] r3  = code[4:0] - offset;          // 0..26
    assign two[2]  = r3 >= 5'd18;
    assign some[2] = r3 >= 5'd9;
    wire [3:0] r2  = r3[3:0] - (two[2] ? 4'd2 : some[2] ? 4'd9 : 4'd0);  // 0..8; 18 modulo 16
    assign two[1]  = r2 >= 4'd6;
    assign some[1] = r2 >= 4'd3;
    wire [1:0] r1  = r2[1:0] - (two[1] ? 2'd2 : some[1] ? 2'd3 : 2'd0);  // 0..2; 6 modulo 4
    assign two[0]  = r1[1];
    assign some[0] = |r1;

    generate
        for (k = 0; k < 5; k = k + 1) begin : g_trit
            assign trits[2*k +: 2] = {2{!illegal}} & {!some[k], !some[k] | two[k]};
        end
    endgenerate
endmodule
`default_nettype wire

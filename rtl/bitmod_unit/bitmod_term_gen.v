// Splits four weight codes into signed power-of-two terms, one term of each per step. Combinational.
`default_nettype none
module bitmod_term_gen (
    input  wire [2:0]  dtype,                 // 0 INT8, 1 INT6, 2 INT4, 4 EFP4, 5 EFP3; others as the nearest of these
    input  wire [1:0]  step,
    input  wire [7:0]  special,               // {term 1, term 0} of the special value
    input  wire [31:0] code,                  // four codes, right aligned
    output reg  [15:0] term,                  // four times {sign, exponent[1:0], not zero}
    output wire [2:0]  bsig,                  // exponent that all terms of the step have in common
    output wire        last                   // last step of these codes
);
    wire float = dtype[2];
    wire efp4  = !(|dtype[1:0]);
    wire int8  = !float & !(|dtype[1:0]);
    wire int6  = !float & (dtype[1:0] == 2'd1);
    assign bsig = float ? {2'b00, !step[0]} : {step, 1'b0};
    assign last = step == (int8 ? 2'd3 : int6 ? 2'd2 : 2'd1);

    reg [8:0] bits;                           // code with a zero below
    reg [2:0] digit;                          // Booth: weights -2, 1, 1
    reg [2:0] mag;                            // magnitudes 0, 1, 2, 3, 4, 6, 8, 12
    reg       sign, is_sv, one, two;
    integer i;
    always @* begin
        term = 16'd0;
        for (i = 0; i < 4; i = i + 1) begin
            bits  = {code[i*8 +: 8], 1'b0};
            digit = step[1] ? (step[0] ? bits[8:6] : bits[6:4]) : (step[0] ? bits[4:2] : bits[2:0]);
            one   = digit[1] ^ digit[0];
            two   = (digit == 3'b011) | (digit == 3'b100);
            mag   = efp4 ? bits[3:1] : {bits[2:1], 1'b0};
            sign  = efp4 ? bits[4] : bits[3];
            is_sv = sign & (mag == 3'd0);
            if (!float)        term[i*4 +: 4] = {digit[2] & !(&digit), 1'b0, two, one | two};
            else if (is_sv)    term[i*4 +: 4] = step[0] ? special[7:4] : special[3:0];
            else if (!step[0]) term[i*4 +: 4] = {sign, mag[2] & mag[1], mag[2] & !mag[1], mag[2] | mag[1]};
            else               term[i*4 +: 4] = {sign, mag[2] & mag[1], mag[2] & !mag[1], mag[0]};
        end
    end
endmodule
`default_nettype wire

// Decodes a protected address: one wrong bit is corrected, two are found. Combinational.
`default_nettype none
module flash_address #(
    parameter AW = 14                         // address [bit], up to 26
) (
    input  wire [AW-1:0] raw,
    input  wire [5:0]    chk,                 // {parity over all, five check bits}
    output reg  [AW-1:0] addr,
    output wire          fixed,               // one bit was wrong, in the address or in its check bits
    output wire          bad                  // more bits were wrong
);
    // column of data bit n: the n-th word of five bits with at least two ones
    function [4:0] column;
        input [31:0] n;
        begin
            column = n + 3;
            if (n > 0)  column = column + 5'd1;
            if (n > 3)  column = column + 5'd1;
            if (n > 10) column = column + 5'd1;
        end
    endfunction

    reg [4:0] syndrome;
    reg       known;                          // the syndrome is that of one bit
    wire      odd = ^{raw, chk};
    integer i;
    always @* begin
        syndrome = chk[4:0];
        for (i = 0; i < AW; i = i + 1)
            syndrome = syndrome ^ (column(i) & {5{raw[i]}});
        known = (syndrome & (syndrome - 5'd1)) == 5'd0;            // none or one of the check bits
        addr  = raw;
        for (i = 0; i < AW; i = i + 1)
            if (syndrome == column(i)) begin
                addr[i] = !raw[i];             // with even parity the address does not count
                known   = 1'b1;
            end
    end
    assign fixed = odd & known;
    assign bad   = odd ? !known : |syndrome;
endmodule
`default_nettype wire

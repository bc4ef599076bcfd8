// Widens packed codes of B bits to INT8, sign- or zero-extended.
// Cycles: interval 1 beat, latency 1; a stalled output stalls the input.
`default_nettype none
module nbit_unpack #(
    parameter LANES = 8,                      // codes per beat
    parameter B     = 4                       // code [bit], 2 to 7
) (
    input  wire               clk,
    input  wire               rst,
    input  wire               cfg_signed,     // 1: two's complement codes
    input  wire               s_valid,
    output wire               s_ready,
    input  wire [LANES*B-1:0] s_data,
    output wire               out_valid,
    input  wire               out_ready,
    output wire [LANES*8-1:0] out_data
);
    generate
        if (LANES < 1) begin : g_bad_l nbit_unpack_requires_LANES_at_least_1 stop(); end
        if (B < 2)     begin : g_bad_b nbit_unpack_requires_B_at_least_2 stop(); end
        if (B > 7)     begin : g_top_b nbit_unpack_requires_B_at_most_7 stop(); end
    endgenerate

    reg [LANES*8-1:0] wide, data_q;
    reg               valid_q;
    integer i;
    always @* begin
        wide = {LANES*8{1'b0}};
        for (i = 0; i < LANES; i = i + 1)
            wide[i*8 +: 8] = {{(8-B){cfg_signed & s_data[i*B + B - 1]}}, s_data[i*B +: B]};
    end

    assign s_ready   = !valid_q | out_ready;
    assign out_valid = valid_q;
    assign out_data  = data_q;

    always @(posedge clk) begin
        if (s_ready) data_q <= wide;
        if (rst)          valid_q <= 1'b0;
        else if (s_ready) valid_q <= s_valid;
    end
endmodule
`default_nettype wire

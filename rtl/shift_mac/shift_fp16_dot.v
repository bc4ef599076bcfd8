// Sum of FP16 activations times powers of two, aligned to the largest exponent; what falls off is kept in the lowest bit.
// Combinational.
`default_nettype none
module shift_fp16_dot #(
    parameter L   = 16,                       // products
    parameter B   = 3,                        // weight {sign, exponent} [bit]
    parameter S_W = 19                        // sum [bit]: 15 + clog2(L)
) (
    input  wire [L*16-1:0] a,                 // FP16
    input  wire [L*B-1:0]  w,
    input  wire [L-1:0]    mask,              // 0: the lane gives nothing
    output wire [S_W-1:0]  sum,               // value = sum * 2^(exp - 28)
    output wire [4:0]      exp,               // 0: no lane counts
    output wire            bad                // a product above 65504, an infinity or NaN
);
    localparam [S_W-1:0] OFFSET = -(L << 14);

    // products: the weight's exponent first moves a subnormal up until it has its leading one, what is left of it is
    // added to the exponent field. Leaf L + i of the tree is the exponent of lane i, 0 where it does not count
    reg [L*11-1:0] m_all;
    reg [L-1:0]    over;
    reg [L*10-1:0] top;
    reg [4:0]      fe;
    reg [10:0]     m;
    reg [B-2:0]    left;
    reg [5:0]      e;
    integer i, j;
    always @* begin
        m_all = {L*11{1'b0}};
        over  = {L{1'b0}};
        top   = {L*10{1'b0}};
        fe    = 5'd0;
        m     = 11'd0;
        left  = {B-1{1'b0}};
        e     = 6'd0;
        for (i = 0; i < L; i = i + 1) begin
            fe   = a[i*16 + 10 +: 5];
            m    = {|fe, a[i*16 +: 10]};
            left = w[i*B +: B-1];
            for (j = B - 2; j >= 0; j = j - 1)
                if (left >= (1 << j) && (m & ~(11'h7ff >> (1 << j))) == 11'd0) begin
                    m    = m << (1 << j);
                    left = left - (1 << j);
                end
            e                = {1'b0, fe[4:1], fe[0] | !(|fe)} + left;
            over[i]          = mask[i] & (e >= 6'd31);
            m_all[i*11 +: 11] = (m | {11{over[i]}}) & {11{mask[i]}};
            if (|m_all[i*11 +: 11])
                top[(L+i)*5 +: 5] = over[i] ? 5'd30 : e[4:0];
        end
        for (i = L - 1; i > 0; i = i - 1)
            top[i*5 +: 5] = (top[(2*i)*5 +: 5] > top[(2*i+1)*5 +: 5]) ? top[(2*i)*5 +: 5] : top[(2*i+1)*5 +: 5];
    end
    assign exp = top[5 +: 5];
    assign bad = |over;

    // aligned and added with the sign bit inverted, as t + 2^14, which spares the sign extension
    reg [4:0]     gap;
    reg [3:0]     d;
    reg [13:0]    full;
    reg [13:0]    p;
    reg           neg;
    reg [S_W-1:0] dot;
    integer k;
    always @* begin
        dot  = OFFSET;
        gap  = 5'd0;
        d    = 4'd0;
        full = 14'd0;
        p    = 14'd0;
        neg  = 1'b0;
        for (k = 0; k < L; k = k + 1) begin
            gap  = exp - top[(L+k)*5 +: 5];
            d    = gap[3:0] | {4{gap[4]}};
            full = {m_all[k*11 +: 11], 3'b000};
            p    = full >> d;
            p[0] = p[0] | (|(full & ~(14'h3fff << d)));
            neg  = a[k*16 + 15] ^ w[k*B + B-1];
            dot  = dot + {!neg, p ^ {14{neg}}} + neg;
        end
    end
    assign sum = dot;
endmodule
`default_nettype wire

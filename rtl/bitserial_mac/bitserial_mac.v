// Dot product of LANES activations with weights that arrive BPC bits per cycle, least significant slice first.
// Cycles: interval 1 slice, sum valid 2 edges after its last slice; a stalled output stalls the slices.
`default_nettype none
module bitserial_mac #(
    parameter LANES = 16,                     // products per slice
    parameter A_W   = 8,                      // activation [bit], signed
    parameter W_MAX = 8,                      // widest weight [bit]
    parameter BPC   = 1,                      // weight bits per cycle: 1, 2 or 4
    parameter PW    = 4,                      // holds W_MAX
    parameter ACC_W = 32                      // accumulator [bit], wraps
) (
    input  wire                 clk,
    input  wire                 rst,
    input  wire [PW-1:0]        cfg_wbits,
    input  wire                 cfg_wsigned,  // two's complement; 0: unsigned
    input  wire                 a_valid,
    output wire                 a_ready,
    input  wire [LANES*A_W-1:0] a_data,
    input  wire                 w_valid,
    output wire                 w_ready,
    input  wire [LANES*BPC-1:0] w_data,
    input  wire                 w_last,       // sampled on the last slice of a chunk
    output wire                 out_valid,
    input  wire                 out_ready,
    output wire [ACC_W-1:0]     out_data,
    output wire                 err
);
    localparam LB    = $clog2(BPC);
    localparam STEPS = (W_MAX + BPC - 1) >> LB;              // slices of the widest weight
    localparam SL_W  = (STEPS > 1) ? $clog2(STEPS) : 1;
    localparam TOP_W = A_W + $clog2(LANES);                  // sum of one bit-plane
    localparam S_W   = TOP_W + BPC;                          // sum of a slice
    localparam FILL  = STEPS << LB;                          // more than the largest shift
    localparam WIDE  = ACC_W + FILL;
    localparam [TOP_W-1:0] TOP_OFFSET = -(LANES << (A_W-1));
    localparam [S_W-1:0]   LOW_OFFSET = -((LANES << (A_W-1)) * ((1 << (BPC-1)) - 1));

    generate
        if (LANES < 1)          begin : g_bad_l   bitserial_mac_requires_LANES_at_least_1 stop(); end
        if (A_W < 2)            begin : g_bad_a   bitserial_mac_requires_A_W_at_least_2 stop(); end
        if (W_MAX < 1)          begin : g_bad_w   bitserial_mac_requires_W_MAX_at_least_1 stop(); end
        if (BPC != 1 && BPC != 2 && BPC != 4)
                                begin : g_bad_bpc bitserial_mac_requires_BPC_1_or_2_or_4 stop(); end
        if ((1 << PW) <= W_MAX) begin : g_bad_pw  bitserial_mac_requires_PW_to_hold_W_MAX stop(); end
        if (ACC_W < S_W)        begin : g_bad_acc bitserial_mac_requires_ACC_W_at_least_A_W_plus_clog2_LANES_plus_BPC stop(); end
    endgenerate

    localparam [PW-1:0] WIDEST = W_MAX;
    localparam [PW-1:0] ONE    = 1;

    // width in use: an illegal one is clamped and flagged
    wire          zero  = cfg_wbits == {PW{1'b0}};
    wire          wide  = cfg_wbits > WIDEST;
    wire [PW-1:0] wbits = zero ? ONE : wide ? WIDEST : cfg_wbits;

    reg                 av_q;                 // activation register is full
    reg [LANES*A_W-1:0] a_q;
    reg [SL_W-1:0]      slice_q;
    reg                 fresh_q;              // next slice begins a result
    reg [S_W-1:0]       dot_q;
    reg [SL_W-1:0]      s1_slice_q;
    reg                 neg_q, s1_valid_q, s1_first_q, s1_last_q;
    reg [ACC_W-1:0]     acc_q;
    reg                 out_valid_q, err_q;

    wire adv        = !out_valid_q | out_ready;
    wire w_fire     = w_valid & w_ready;
    wire a_fire     = a_valid & a_ready;
    wire [PW+SL_W+2:0] next = {{PW+3{1'b0}}, slice_q} + 1;   // slices up to this one
    wire last_slice = (next << LB) >= wbits;
    wire done       = w_fire & last_slice;    // chunk complete
    wire minus      = cfg_wsigned & last_slice;

    assign w_ready   = av_q & adv;
    assign a_ready   = !av_q | done;
    assign out_valid = out_valid_q;
    assign out_data  = acc_q;
    assign err       = err_q;

    // sums of the slice's top bit-plane and of those below. Terms are added with the sign bit inverted, as
    // a + 2^(A_W-1), which spares their sign extension; the sums start at what takes the offsets off again
    reg [A_W-1:0]        a, t;
    reg [TOP_W-1:0]      top;
    reg signed [S_W-1:0] low;
    integer i, b;
    always @* begin
        top = TOP_OFFSET;
        low = LOW_OFFSET;
        a   = {A_W{1'b0}};
        t   = {A_W{1'b0}};
        for (i = 0; i < LANES; i = i + 1) begin
            a   = a_q[i*A_W +: A_W];
            t   = a & {A_W{w_data[i*BPC + BPC-1]}};
            top = top + {!t[A_W-1], t[A_W-2:0]};
            for (b = 0; b < BPC-1; b = b + 1) begin
                t   = a & {A_W{w_data[i*BPC + b]}};
                low = low + ({!t[A_W-1], t[A_W-2:0]} << b);
            end
        end
    end

    // -(v << s) = (~v << s, filled with ones) + 1: the + 1 comes in as the carry of the accumulator
    wire        [S_W-1:0]      flip   = {top, {BPC{1'b0}}} ^ {S_W{minus}};
    wire signed [S_W-2:0]      high   = flip[S_W-1:1];
    wire        [S_W-1:0]      dot    = low + high;
    wire signed [S_W+FILL-1:0] filled = {dot_q, {FILL{neg_q}}};
    wire        [WIDE-1:0]     full   = filled;              // sign-extends
    wire        [SL_W+LB-1:0]  sh     = s1_slice_q << LB;
    wire        [WIDE-1:0]     moved  = full << sh;
    wire        [ACC_W-1:0]    base   = s1_first_q ? {ACC_W{1'b0}} : acc_q;
    wire        [ACC_W:0]      sum    = {base, 1'b1} + {moved[FILL +: ACC_W], neg_q};

    always @(posedge clk) begin
        if (a_fire) a_q <= a_data;
        if (adv) begin
            dot_q      <= dot;
            neg_q      <= minus;
            s1_slice_q <= slice_q;
            s1_first_q <= fresh_q;
            s1_last_q  <= last_slice & w_last;
            if (s1_valid_q) acc_q <= sum[ACC_W:1];
        end
        if (rst) begin
            av_q        <= 1'b0;
            slice_q     <= {SL_W{1'b0}};
            fresh_q     <= 1'b1;
            s1_valid_q  <= 1'b0;
            out_valid_q <= 1'b0;
            err_q       <= 1'b0;
        end else begin
            av_q <= a_fire | (av_q & !done);
            if (w_fire) begin
                slice_q <= last_slice ? {SL_W{1'b0}} : next[SL_W-1:0];
                fresh_q <= last_slice & w_last;
            end
            if (adv) begin
                s1_valid_q  <= w_fire;
                out_valid_q <= s1_valid_q & s1_last_q;
            end
            if ((a_fire | w_fire) & (zero | wide)) err_q <= 1'b1;
        end
    end
endmodule
`default_nettype wire

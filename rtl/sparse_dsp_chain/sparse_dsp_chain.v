// Chain of D multipliers, each for two activations that share a weight, operands picked by sparse index, split in segments.
// Cycles: interval 1 beat, sums valid 3 edges after their last beat; a stalled output stalls the beats.
`default_nettype none
module sparse_dsp_chain #(
    parameter D     = 8,                      // multipliers, 4 or 8
    parameter M     = 4,                      // positions of a block, power of two
    parameter XW    = $clog2(M),              // index of a position [bit]
    parameter NW    = $clog2(M + 1),          // holds M
    parameter ACC_W = 32                      // accumulator [bit], wraps
) (
    input  wire               clk,
    input  wire               rst,
    input  wire [NW-1:0]      cfg_n,          // weights kept of M: 1, 2 or M (dense)
    input  wire [1:0]         cfg_split,      // 2^split segments: 0, 1 or 2
    input  wire               s_valid,
    output wire               s_ready,
    input  wire [D*M*8-1:0]   s_a0,           // window of token 0: D blocks of M, signed
    input  wire [D*M*8-1:0]   s_a1,
    input  wire [D*8-1:0]     s_w,            // -127 to 127
    input  wire [D*XW-1:0]    s_x,            // position of each weight in its block
    input  wire               s_last,
    output wire               out_valid,
    input  wire               out_ready,
    output wire [8*ACC_W-1:0] out_data,       // {token 1 segments 3..0, token 0 segments 3..0}
    output wire               err
);
    localparam F   = 18;                      // field of token 0: eight products of -128 * -127 are below 2^17
    localparam HI  = 9;                       // token 1 above it, less the borrow of token 0
    localparam PER = D / 4;                   // lanes of a quarter, the shortest segment
    localparam QW  = F + 15 + $clog2(PER);    // sum of a quarter, both tokens in one word
    localparam SW  = QW + 2;                  // sum of all lanes

    generate
        if (D != 4 && D != 8)        begin : g_bad_d   sparse_dsp_chain_requires_D_4_or_8 stop(); end
        if (M < 2 || (1 << XW) != M) begin : g_bad_m   sparse_dsp_chain_requires_M_equal_2_to_the_XW_at_least_2 stop(); end
        if ((1 << NW) <= M)          begin : g_bad_n   sparse_dsp_chain_requires_NW_to_hold_M stop(); end
        if (ACC_W < F)               begin : g_bad_acc sparse_dsp_chain_requires_ACC_W_at_least_18 stop(); end
    endgenerate

    localparam [NW-1:0] ONE = 1;
    localparam [NW-1:0] TWO = 2;
    localparam [NW-1:0] ALL = M;

    // anything but 1:M and 2:M is read as dense, any split above 1 as 4 segments
    wire one   = cfg_n == ONE;
    wire dense = !one & (cfg_n != TWO | TWO == ALL);
    wire wrong = (dense & cfg_n != ALL) | (cfg_split == 2'd3);
    wire whole = cfg_split == 2'd0;
    wire four  = cfg_split[1];

    // stage 1: operands. Packed as (a1 << F) + a0, of which bits above a0's own are its sign
    wire [D*8-1:0] a0, a1;
    genvar d;
    generate
        for (d = 0; d < D; d = d + 1) begin : g_lane
            sparse_pick #(.M(M), .XW(XW)) pick0 (
                .one(one), .dense(dense), .x(s_x[d*XW +: XW]), .own(s_a0[d*M*8 +: M*8]),
                .pair(s_a0[(d/2)*M*8 +: M*8]), .straight(s_a0[d*8 +: 8]), .a(a0[d*8 +: 8])
            );
            sparse_pick #(.M(M), .XW(XW)) pick1 (
                .one(one), .dense(dense), .x(s_x[d*XW +: XW]), .own(s_a1[d*M*8 +: M*8]),
                .pair(s_a1[(d/2)*M*8 +: M*8]), .straight(s_a1[d*8 +: 8]), .a(a1[d*8 +: 8])
            );
        end
    endgenerate

    reg [D*HI-1:0] hi;
    reg [D*8-1:0]  w;
    reg [D-1:0]    lowest;                    // weight -128: read as -127, flagged
    integer i;
    always @* begin
        for (i = 0; i < D; i = i + 1) begin
            lowest[i]      = s_w[i*8 +: 8] == 8'h80;
            w[i*8 +: 8]    = s_w[i*8 +: 8] | lowest[i];
            hi[i*HI +: HI] = {a1[i*8 + 7], a1[i*8 +: 8]} - a0[i*8 + 7];
        end
    end

    // stage 2: products, summed over each quarter of the chain
    reg [D*HI-1:0]    hi_q;
    reg [D*8-1:0]     a0_q, w_q;
    reg [4*QW-1:0]    quarters, quarters_q;
    reg signed [26:0] pack;
    reg signed [7:0]  weight;
    reg [34:0]        prod;
    reg [QW-1:0]      sum;
    integer j, k;
    always @* begin
        for (k = 0; k < 4; k = k + 1) begin
            sum = {QW{1'b0}};
            for (j = k*PER; j < (k + 1)*PER; j = j + 1) begin
                pack   = {hi_q[j*HI +: HI], {F-8{a0_q[j*8 + 7]}}, a0_q[j*8 +: 8]};
                weight = w_q[j*8 +: 8];
                prod   = pack * weight;
                sum    = sum + prod;
            end
            quarters[k*QW +: QW] = sum;
        end
    end

    // stage 3: quarters joined to segments, unpacked, accumulated
    wire signed [QW-1:0] q0 = quarters_q[0*QW +: QW];
    wire signed [QW-1:0] q1 = quarters_q[1*QW +: QW];
    wire signed [QW-1:0] q2 = quarters_q[2*QW +: QW];
    wire signed [QW-1:0] q3 = quarters_q[3*QW +: QW];
    wire [SW-1:0] e0 = q0;                    // sign-extends
    wire [SW-1:0] e1 = q1;
    wire [SW-1:0] e2 = q2;
    wire [SW-1:0] e3 = q3;
    wire [SW-1:0] left  = e0 + (four ? {SW{1'b0}} : e1);
    wire [SW-1:0] right = e2 + (four ? {SW{1'b0}} : e3);
    wire [SW-1:0] seg0  = left + (whole ? right : {SW{1'b0}});
    wire [SW-1:0] seg1  = four ? e1 : whole ? {SW{1'b0}} : right;
    wire [SW-1:0] seg2  = four ? e2 : {SW{1'b0}};
    wire [SW-1:0] seg3  = four ? e3 : {SW{1'b0}};
    wire [4*SW-1:0] segs = {seg3, seg2, seg1, seg0};

    reg [8*ACC_W-1:0]     acc_q, acc;
    reg                   s1_valid_q, s1_last_q, s2_valid_q, s2_last_q, fresh_q, out_valid_q, err_q;
    reg signed [F-1:0]    low;
    reg signed [SW-F-1:0] high;
    reg [ACC_W-1:0]       low_wide, high_wide;
    wire [8*ACC_W-1:0]    base = fresh_q ? {8*ACC_W{1'b0}} : acc_q;
    integer s;
    always @* begin
        for (s = 0; s < 4; s = s + 1) begin
            low       = segs[s*SW +: F];
            high      = segs[s*SW + F +: SW-F];
            low_wide  = low;                  // sign-extends
            high_wide = high;
            acc[s*ACC_W +: ACC_W]       = base[s*ACC_W +: ACC_W] + low_wide;
            acc[(4 + s)*ACC_W +: ACC_W] = base[(4 + s)*ACC_W +: ACC_W] + high_wide + low[F-1];   // gives the borrow back
        end
    end

    wire adv    = !out_valid_q | out_ready;
    wire s_fire = s_valid & s_ready;
    assign s_ready   = adv;
    assign out_valid = out_valid_q;
    assign out_data  = acc_q;
    assign err       = err_q;

    always @(posedge clk) begin
        if (adv) begin
            hi_q       <= hi;
            a0_q       <= a0;
            w_q        <= w;
            s1_last_q  <= s_last;
            quarters_q <= quarters;
            s2_last_q  <= s1_last_q;
            if (s2_valid_q) acc_q <= acc;
        end
        if (rst) begin
            s1_valid_q  <= 1'b0;
            s2_valid_q  <= 1'b0;
            out_valid_q <= 1'b0;
            fresh_q     <= 1'b1;
            err_q       <= 1'b0;
        end else begin
            if (adv) begin
                s1_valid_q  <= s_valid;
                s2_valid_q  <= s1_valid_q;
                out_valid_q <= s2_valid_q & s2_last_q;
                if (s2_valid_q) fresh_q <= s2_last_q;
            end
            if (s_fire & (wrong | (|lowest))) err_q <= 1'b1;
        end
    end
endmodule
`default_nettype wire

// Term-serial PE: four FP16 activations times one power-of-two term each, summed, and times the group's scale bit by bit.
// Cycles: interval 1 step; a group's result is valid 3 + D_W edges after its last step, one group per D_W edges at most.
`default_nettype none
module bitmod_pe #(
    parameter ACC_W = 24,                     // accumulator [bit]: holds 2^(ACC_W-17) steps
    parameter D_W   = 8                       // scale of a group [bit], unsigned
) (
    input  wire                   clk,
    input  wire                   rst,
    input  wire                   t_valid,
    output wire                   t_ready,
    input  wire [63:0]            t_act,      // FP16
    input  wire [15:0]            t_term,
    input  wire [2:0]             t_bsig,
    input  wire                   t_last,     // last step of a group
    input  wire [D_W-1:0]         t_scale,    // sampled with t_last
    output wire                   bad,        // an infinity or NaN among the activations
    output wire                   out_valid,
    input  wire                   out_ready,
    output wire [ACC_W+D_W-1:0]   out_man,    // value = man * 2^(exp - 28), EFP types 2^(exp - 29)
    output wire [5:0]             out_exp
);
    localparam CW = $clog2(D_W);
    localparam [CW-1:0] REST = D_W - 1;       // scale bits after the first

    reg             a_valid_q, a_last_q, b_valid_q, b_last_q, b_any_q, done_q, fresh_q, out_valid_q;
    reg [CW-1:0]    left_q;                   // scale bits still to come; 0: idle
    wire idle    = left_q == {CW{1'b0}};
    wire adv     = !done_q | idle;            // a finished group waits for the dequantiser
    wire load    = done_q & idle;
    wire ending   = left_q == {{(CW-1){1'b0}}, 1'b1};
    wire move    = !idle & (!ending | !out_valid_q | out_ready);
    assign t_ready   = adv;
    assign out_valid = out_valid_q;

    // stage A: exponents of the products, the largest, distances from it
    reg  [23:0] e;
    reg  [43:0] am;
    reg  [3:0]  s, lane_bad;
    reg  [4:0]  fe;
    integer i;
    always @* begin
        for (i = 0; i < 4; i = i + 1) begin
            fe            = t_act[i*16 + 10 +: 5];
            lane_bad[i]   = &fe;
            am[i*11 +: 11] = {|fe, t_act[i*16 +: 10] | {10{&fe}}} & {11{t_term[i*4]}};
            s[i]          = t_act[i*16 + 15] ^ t_term[i*4 + 3];
            e[i*6 +: 6]   = {1'b0, fe[4:1], (fe[0] | !(|fe)) & !(&fe)} + {4'd0, t_term[i*4 + 1 +: 2]};
            if (am[i*11 +: 11] == 11'd0) e[i*6 +: 6] = 6'd0;       // does not count
        end
    end
    assign bad = |lane_bad;
    wire [5:0] e01   = (e[0 +: 6] > e[6 +: 6]) ? e[0 +: 6] : e[6 +: 6];
    wire [5:0] e23   = (e[12 +: 6] > e[18 +: 6]) ? e[12 +: 6] : e[18 +: 6];
    wire [5:0] e_max = (e01 > e23) ? e01 : e23;

    reg [15:0] d;
    reg [5:0]  gap;
    integer k;
    always @* begin
        for (k = 0; k < 4; k = k + 1) begin
            gap         = e_max - e[k*6 +: 6];
            d[k*4 +: 4] = gap[3:0] | {4{|gap[5:4]}};
        end
    end

    // stage B: products aligned, what falls off kept in the lowest bit, summed
    reg [43:0]      am_q;
    reg [15:0]      d_q;
    reg [3:0]       s_q;
    reg [5:0]       a_exp_q;
    reg             a_any_q;
    reg [D_W-1:0]   a_scale_q;
    reg [13:0]      p;
    reg [13:0]      full;
    reg [16:0]      sum;
    integer n;
    always @* begin
        sum = 17'd0;
        for (n = 0; n < 4; n = n + 1) begin
            full = {am_q[n*11 +: 11], 3'b000};
            p    = full >> d_q[n*4 +: 4];
            p[0] = p[0] | (|(full & ~(14'h3fff << d_q[n*4 +: 4])));
            sum  = sum + {{3{s_q[n]}}, p ^ {14{s_q[n]}}} + {16'd0, s_q[n]};
        end
    end

    // stage C: the operand with the smaller exponent is shifted, then added; nothing is normalised
    reg [16:0]      sum_q;
    reg [5:0]       b_exp_q, exp_q;
    reg [D_W-1:0]   b_scale_q, scale_q;
    reg [ACC_W-1:0] acc_q;
    wire [ACC_W-1:0] base     = acc_q & {ACC_W{!fresh_q}};
    wire [5:0]       base_exp = exp_q & {6{!fresh_q}};
    wire [ACC_W-1:0] step     = {{(ACC_W-17){sum_q[16]}}, sum_q};
    wire             above    = b_exp_q > base_exp;
    wire             lead     = b_any_q & (above | (base == {ACC_W{1'b0}}));
    wire [5:0]       away     = above ? b_exp_q - base_exp : base_exp - b_exp_q;
    wire [ACC_W-1:0] hi       = lead ? step : base;
    wire signed [ACC_W-1:0] lo = lead ? base : step;
    wire [ACC_W-1:0] far      = lo >>> away;
    wire             lost     = |(lo & ~({ACC_W{1'b1}} << away));
    wire [ACC_W-1:0] total    = hi + {far[ACC_W-1:1], far[0] | lost};

    // dequantiser: mantissa times scale, highest bit first
    reg  [ACC_W-1:0]     man_q;
    reg  [ACC_W+D_W-2:0] part_q;
    reg  [D_W-2:0]       bits_q;
    reg  [5:0]           dq_exp_q, out_exp_q;
    reg  [ACC_W+D_W-1:0] out_man_q;
    wire [ACC_W+D_W-1:0] next = {part_q, 1'b0} + {{D_W{man_q[ACC_W-1]}} & {D_W{bits_q[D_W-2]}}, man_q & {ACC_W{bits_q[D_W-2]}}};
    wire [ACC_W-1:0]     first = acc_q & {ACC_W{scale_q[D_W-1]}};
    assign out_man = out_man_q;
    assign out_exp = out_exp_q;

    always @(posedge clk) begin
        if (adv) begin
            am_q      <= am;
            d_q       <= d;
            s_q       <= s;
            a_exp_q   <= e_max + {3'd0, t_bsig};
            a_any_q   <= |e_max;
            a_last_q  <= t_last;
            a_scale_q <= t_scale;
            sum_q     <= sum;
            b_exp_q   <= a_exp_q;
            b_any_q   <= a_any_q;
            b_last_q  <= a_last_q;
            b_scale_q <= a_scale_q;
            scale_q   <= b_scale_q;
            if (b_valid_q) begin
                acc_q <= total;
                exp_q <= lead ? b_exp_q : base_exp;
            end
        end
        if (load) begin
            man_q    <= acc_q;
            dq_exp_q <= exp_q;
            bits_q   <= scale_q[D_W-2:0];
            part_q   <= {{(D_W-1){first[ACC_W-1]}}, first};
        end
        if (move) begin
            bits_q <= bits_q << 1;
            part_q <= next[ACC_W+D_W-2:0];
        end
        if (move & ending) begin
            out_man_q <= next;
            out_exp_q <= dq_exp_q;
        end
        if (rst) begin
            a_valid_q   <= 1'b0;
            b_valid_q   <= 1'b0;
            done_q      <= 1'b0;
            fresh_q     <= 1'b1;
            left_q      <= {CW{1'b0}};
            out_valid_q <= 1'b0;
        end else begin
            if (adv) begin
                a_valid_q <= t_valid;
                b_valid_q <= a_valid_q;
                done_q    <= b_valid_q & b_last_q;
                if (b_valid_q) fresh_q <= b_last_q;
            end
            if (load) left_q <= REST;
            if (move) left_q <= left_q - 1'b1;
            out_valid_q <= (move & ending) | (out_valid_q & !out_ready);
        end
    end
endmodule
`default_nettype wire

// Block floating point: the FP16 values of a block as integers of N bits with one exponent.
// Cycles: interval 1 beat; first beat out 4 edges after a block's last one in; a stalled output stalls the input.
`default_nettype none
module bfp_align #(
    parameter B     = 32,                     // values of a block
    parameter LANES = 8,                      // values per beat
    parameter N     = 16                      // mantissa [bit], signed
) (
    input  wire                clk,
    input  wire                rst,
    input  wire                s_valid,
    output wire                s_ready,
    input  wire [LANES*16-1:0] s_data,        // FP16
    output wire                out_valid,
    input  wire                out_ready,
    output wire [LANES*N-1:0]  out_data,      // mantissas
    output wire [4:0]          out_exp,       // E of the block: a value is mantissa * 2^(E - 13 - N)
    output wire                out_last,      // last beat of a block
    output wire                err
);
    localparam C    = (LANES < 1) ? 1 : (B + LANES - 1) / LANES;     // beats of a block
    localparam CW   = (C > 1) ? $clog2(C) : 1;
    localparam V_W  = (N > 12) ? N - 1 : 11;            // significand, zeros below it where mantissas are wider
    localparam F    = V_W + 1 - N;                      // its bits below the unit of a mantissa
    localparam [CW-1:0] LAST = C - 1;
    localparam [V_W:0]  LOW  = (1 << F) - 1;

    generate
        if (LANES < 1) begin : g_bad_l bfp_align_requires_LANES_at_least_1 stop(); end
        if (B < LANES) begin : g_bad_b bfp_align_requires_B_at_least_LANES stop(); end
        if (N < 2)     begin : g_bad_n bfp_align_requires_N_at_least_2 stop(); end
    endgenerate

    reg          s1_valid_q, s2_valid_q, s3_valid_q, out_valid_q, err_q;
    reg          s1_last_q, s2_last_q, s3_last_q, out_last_q;
    reg [CW-1:0] wr_q, rd_q;                  // place of the next beat to write, to read
    reg [4:0]    s1_top_q, run_q;             // largest exponent of the beat, of those before it: at least 1, as of subnormals
    reg [4:0]    exp_q, s3_exp_q, out_exp_q;  // E of the block that is read

    wire       adv     = !out_valid_q | out_ready;
    wire       s_fire  = s_valid & adv;
    wire       full    = s1_valid_q & s1_last_q;        // all beats of a block are there
    wire       reading = full | (rd_q != {CW{1'b0}});
    wire [4:0] most    = (s1_top_q > run_q) ? s1_top_q : run_q;

    assign s_ready   = adv;
    assign out_valid = out_valid_q;
    assign out_exp   = out_exp_q;
    assign out_last  = out_last_q;
    assign err       = err_q;

    // pass 1: infinities and NaNs become the largest value; largest exponent of the beat by pairs, of pairs, and so on
    reg [LANES*16-1:0] finite;
    reg [LANES*5-1:0]  field;
    reg                illegal;
    integer i, s;
    always @* begin
        finite  = s_data;
        field   = {LANES*5{1'b0}};
        illegal = 1'b0;
        for (i = 0; i < LANES; i = i + 1) begin
            if (&s_data[i*16 + 10 +: 5]) begin
                finite[i*16 +: 15] = 15'h7bff;
                illegal = 1'b1;
            end
            field[i*5 +: 5] = finite[i*16 + 10 +: 5];
        end
        for (s = 1; s < LANES; s = s << 1)
            for (i = 0; i + s < LANES; i = i + 2*s)
                if (field[(i+s)*5 +: 5] > field[i*5 +: 5]) field[i*5 +: 5] = field[(i+s)*5 +: 5];
    end

    // one block of beats: a place is read at the latest when the next block writes it
    reg  [LANES*16-1:0] store_q [0:C-1];
    wire [LANES*16-1:0] stored = store_q[rd_q];
    reg  [LANES*16-1:0] s2_data_q;

    // pass 2: significands and how far each lies below the block's exponent
    reg [LANES-1:0]    sign, s3_sign_q;
    reg [LANES*11-1:0] sig, s3_sig_q;
    reg [LANES*5-1:0] below, s3_below_q;
    reg                normal;
    integer k;
    always @* begin
        sign   = {LANES{1'b0}};
        sig    = {LANES*11{1'b0}};
        below  = {LANES*5{1'b0}};
        normal = 1'b0;
        for (k = 0; k < LANES; k = k + 1) begin
            normal = |s2_data_q[k*16 + 10 +: 5];
            sign[k]         = s2_data_q[k*16 + 15];
            sig[k*11 +: 11] = {normal, s2_data_q[k*16 +: 10]};
            below[k*5 +: 5] = exp_q - (s2_data_q[k*16 + 10 +: 5] | {4'd0, !normal});
        end
    end

    // shift, round half to even, clamp; the + 1 of a negation and that of rounding meet in one carry
    reg [LANES*N-1:0] aligned, out_data_q;
    reg [V_W:0]       x, y;
    reg [N-2:0]       q;
    reg               sticky, up;
    integer j;
    always @* begin
        aligned = {LANES*N{1'b0}};
        x       = {(V_W+1){1'b0}};
        y       = x;
        q       = {(N-1){1'b0}};
        sticky  = 1'b0;
        up      = 1'b0;
        for (j = 0; j < LANES; j = j + 1) begin
            x[V_W-10 +: 11] = s3_sig_q[j*11 +: 11];
            y      = x >> s3_below_q[j*5 +: 5];
            q      = y[F+1 +: N-1];
            sticky = (|(y & LOW)) | (|(x & ~({(V_W+1){1'b1}} << s3_below_q[j*5 +: 5])));
            up     = y[F] & (q[0] | sticky) & !(&q);
            aligned[j*N +: N] = ({1'b0, q} ^ {N{s3_sign_q[j]}}) + {{(N-1){1'b0}}, s3_sign_q[j] ^ up};
        end
    end
    assign out_data = out_data_q;

    always @(posedge clk) begin
        if (s_fire) store_q[wr_q] <= finite;
        if (adv) begin
            s1_top_q   <= field[4:0];
            s1_last_q  <= wr_q == LAST;
            if (full) exp_q <= most;
            s2_data_q  <= stored;
            s2_last_q  <= rd_q == LAST;
            s3_sign_q  <= sign;
            s3_sig_q   <= sig;
            s3_below_q <= below;
            s3_exp_q   <= exp_q;
            s3_last_q  <= s2_last_q;
            out_data_q <= aligned;
            out_exp_q  <= s3_exp_q;
            out_last_q <= s3_last_q;
        end
        if (rst) begin
            wr_q        <= {CW{1'b0}};
            rd_q        <= {CW{1'b0}};
            run_q       <= 5'd1;
            s1_valid_q  <= 1'b0;
            s2_valid_q  <= 1'b0;
            s3_valid_q  <= 1'b0;
            out_valid_q <= 1'b0;
            err_q       <= 1'b0;
        end else begin
            if (s_fire) begin
                wr_q <= (wr_q == LAST) ? {CW{1'b0}} : wr_q + 1'b1;
                if (illegal) err_q <= 1'b1;
            end
            if (adv) begin
                if (s1_valid_q) run_q <= s1_last_q ? 5'd1 : most;
                if (reading) rd_q <= (rd_q == LAST) ? {CW{1'b0}} : rd_q + 1'b1;
                s1_valid_q  <= s_valid;
                s2_valid_q  <= reading;
                s3_valid_q  <= s2_valid_q;
                out_valid_q <= s3_valid_q;
            end
        end
    end
endmodule
`default_nettype wire

// Compute core of a flash die: a page of INT8 weights times a vector as it leaves the page register, outliers repaired.
// Cycles: a beat of NMAC weights an edge, one edge more for each protected outlier, one for loading the first of them.
`default_nettype none
module flash_page_gemv #(
    parameter PAGE  = 16384,                  // weights of a page
    parameter AW    = 14,                     // address of a weight [bit]
    parameter COLS  = 256,                    // weights of a row, 2^CAW
    parameter CAW   = 8,
    parameter NMAC  = 2,                      // weights per beat, 2^NW
    parameter NW    = 1,
    parameter ACC_W = 32                      // accumulator [bit], wraps
) (
    input  wire               clk,
    input  wire               rst,
    input  wire               x_valid,        // the vector, before each page
    output wire               x_ready,
    input  wire [NMAC*8-1:0]  x_data,
    input  wire               h_valid,        // command of a page
    output wire               h_ready,
    input  wire [71:0]        h_thr,          // nine copies of the threshold
    input  wire [AW-1:0]      h_ne,           // protected weights
    input  wire               e_valid,        // protected weights by ascending address
    output wire               e_ready,
    input  wire [AW+21:0]     e_data,         // {copy 2, copy 1, check bits [5:0], address}
    input  wire               d_valid,        // the page
    output wire               d_ready,
    input  wire [NMAC*8-1:0]  d_data,
    output wire               out_valid,      // one sum per row
    input  wire               out_ready,
    output wire [ACC_W-1:0]   out_data,
    output wire [15:0]        cnt_fixed,      // addresses corrected
    output wire [15:0]        cnt_drop,       // protected weights dropped
    output wire [15:0]        cnt_zero        // weights above the threshold that are not protected
);
    localparam BW    = AW - NW;               // number of a beat
    localparam RW    = CAW - NW;              // number of a beat in its row
    localparam BEATS = PAGE / NMAC;
    localparam [BW-1:0] LAST_BEAT = BEATS - 1;

    generate
        if (NMAC < 2)                       begin : g_bad_n   flash_page_gemv_requires_NMAC_at_least_2 stop(); end
        if ((1 << NW) != NMAC)              begin : g_bad_nw  flash_page_gemv_requires_NMAC_equal_2_to_NW stop(); end
        if ((1 << CAW) != COLS)             begin : g_bad_caw flash_page_gemv_requires_COLS_equal_2_to_CAW stop(); end
        if (COLS < 2 * NMAC)                begin : g_bad_c   flash_page_gemv_requires_two_beats_per_row stop(); end
        if ((PAGE >> CAW) << CAW != PAGE)   begin : g_bad_p   flash_page_gemv_requires_PAGE_of_whole_rows stop(); end
        if (PAGE > (1 << AW))               begin : g_bad_aw  flash_page_gemv_requires_AW_to_hold_PAGE stop(); end
        if (AW > 26)                        begin : g_top_aw  flash_page_gemv_requires_AW_at_most_26 stop(); end
        if (ACC_W < 16)                     begin : g_bad_acc flash_page_gemv_requires_ACC_W_at_least_16 stop(); end
    endgenerate

    reg           full_q, busy_q, drain_q;    // vector loaded; page under way; its beats are all taken
    reg  [RW-1:0] load_q;
    reg  [BW-1:0] beat_q;
    reg  [AW-1:0] todo_q;                     // protected weights not yet taken
    reg           head_q, head_bad_q;         // one taken and decoded
    reg  [AW-1:0] head_addr_q;
    reg  [15:0]   head_copy_q;
    reg           s1_valid_q, s1_first_q, s1_last_q, out_valid_q;

    // the head's place: before the beat in turn, in it, or beyond
    wire [BW-1:0] head_beat = head_addr_q[AW-1:NW];
    wire          stale     = drain_q | head_bad_q | (head_beat < beat_q);
    wire          here      = !stale & (head_beat == beat_q);
    wire          drop      = head_q & stale;
    wire          patch     = head_q & here & d_valid;
    wire          pop       = drop | patch;
    wire          none_left = todo_q == {AW{1'b0}};
    wire          clear     = head_q ? !stale & !here : none_left;     // nothing protected in this beat any more
    wire          adv       = !out_valid_q | out_ready;
    wire          take      = busy_q & !drain_q & clear & adv;

    assign x_ready   = !busy_q & !full_q;
    assign h_ready   = !busy_q & full_q;
    assign e_ready   = busy_q & !none_left & (!head_q | pop);
    assign d_ready   = take;
    assign out_valid = out_valid_q;
    wire   x_fire    = x_valid & x_ready;
    wire   h_fire    = h_valid & h_ready;
    wire   e_fire    = e_valid & e_ready;
    wire   d_fire    = d_valid & take;
    wire   last_beat = beat_q == LAST_BEAT;
    wire   empty     = none_left & (!head_q | pop);    // after this edge no protected weight is left
    wire   finish    = empty & (drain_q | (d_fire & last_beat));

    wire [AW-1:0] e_addr;
    wire          e_fixed, e_bad;
    flash_address #(.AW(AW)) address (
        .raw(e_data[AW-1:0]), .chk(e_data[AW +: 6]), .addr(e_addr), .fixed(e_fixed), .bad(e_bad)
    );

    // threshold: bitwise majority of nine copies
    reg [7:0] thr_q, thr;
    reg [3:0] votes;
    integer b, c;
    always @* begin
        thr = 8'd0;
        for (b = 0; b < 8; b = b + 1) begin
            votes = 4'd0;
            for (c = 0; c < 9; c = c + 1)
                votes = votes + {3'd0, h_thr[c*8 + b]};
            thr[b] = votes > 4'd4;
        end
    end

    // weights of the beat: repaired, zeroed or as read
    reg  [NMAC-1:0]   patched_q, zeroed;
    reg  [NMAC*8-1:0] repaired_q, voted, value;
    reg  [7:0]        mag;
    reg  [NW:0]       zeros;
    integer i;
    always @* begin
        value = d_data;
        voted = {(NMAC*8){1'b0}};
        zeros = {(NW+1){1'b0}};
        for (i = 0; i < NMAC; i = i + 1) begin
            voted[i*8 +: 8] = (d_data[i*8 +: 8] & head_copy_q[7:0]) | (d_data[i*8 +: 8] & head_copy_q[15:8])
                            | (head_copy_q[7:0] & head_copy_q[15:8]);
            mag       = (d_data[i*8 +: 8] ^ {8{d_data[i*8 + 7]}}) + {7'd0, d_data[i*8 + 7]};
            zeroed[i] = !patched_q[i] & (mag > thr_q);
            zeros     = zeros + {{NW{1'b0}}, zeroed[i]};
            if (zeroed[i])    value[i*8 +: 8] = 8'd0;
            if (patched_q[i]) value[i*8 +: 8] = repaired_q[i*8 +: 8];
        end
    end

    // stage 1: operands; stage 2: products and accumulator
    reg  [NMAC*8-1:0] vector_q [0:(1<<RW)-1];
    wire [NMAC*8-1:0] vector = vector_q[beat_q[RW-1:0]];
    reg  [NMAC*8-1:0] s1_w_q, s1_x_q;
    reg  [ACC_W-1:0]  acc_q, sum;
    reg  signed [7:0]  w, x;
    reg  signed [15:0] product;
    integer k;
    always @* begin
        sum = acc_q & {ACC_W{!s1_first_q}};
        for (k = 0; k < NMAC; k = k + 1) begin
            w       = s1_w_q[k*8 +: 8];
            x       = s1_x_q[k*8 +: 8];
            product = w * x;
            sum     = sum + {{(ACC_W-15){product[15]}}, product[14:0]};
        end
    end
    assign out_data = acc_q;

    reg [15:0] fixed_q, drop_q, zero_q;
    assign cnt_fixed = fixed_q;
    assign cnt_drop  = drop_q;
    assign cnt_zero  = zero_q;

    integer n;
    always @(posedge clk) begin
        if (x_fire) vector_q[load_q] <= x_data;
        if (h_fire) thr_q <= thr;
        if (e_fire) begin
            head_addr_q <= e_addr;
            head_bad_q  <= e_bad;
            head_copy_q <= e_data[AW+6 +: 16];
        end
        for (n = 0; n < NMAC; n = n + 1)
            if (patch & (head_addr_q[NW-1:0] == n[NW-1:0])) repaired_q[n*8 +: 8] <= voted[n*8 +: 8];
        if (adv) begin
            s1_w_q     <= value;
            s1_x_q     <= vector;
            s1_first_q <= beat_q[RW-1:0] == {RW{1'b0}};
            s1_last_q  <= &beat_q[RW-1:0];
            if (s1_valid_q) acc_q <= sum;
        end
        if (rst) begin
            full_q      <= 1'b0;
            busy_q      <= 1'b0;
            drain_q     <= 1'b0;
            head_q      <= 1'b0;
            load_q      <= {RW{1'b0}};
            patched_q   <= {NMAC{1'b0}};
            s1_valid_q  <= 1'b0;
            out_valid_q <= 1'b0;
            fixed_q     <= 16'd0;
            drop_q      <= 16'd0;
            zero_q      <= 16'd0;
        end else begin
            if (x_fire) begin
                load_q <= load_q + 1'b1;
                full_q <= &load_q;
            end
            if (h_fire) begin
                busy_q <= 1'b1;
                full_q <= 1'b0;
                todo_q <= h_ne;
                beat_q <= {BW{1'b0}};
            end
            if (e_fire) begin
                todo_q  <= todo_q - 1'b1;
                fixed_q <= fixed_q + {15'd0, e_fixed};
            end
            head_q <= e_fire | (head_q & !pop);
            if (drop) drop_q <= drop_q + 16'd1;
            for (n = 0; n < NMAC; n = n + 1)
                if (d_fire) patched_q[n] <= 1'b0;
                else if (patch & (head_addr_q[NW-1:0] == n[NW-1:0])) patched_q[n] <= 1'b1;
            if (d_fire) begin
                beat_q  <= beat_q + 1'b1;
                zero_q  <= zero_q + {{(15-NW){1'b0}}, zeros};
                drain_q <= last_beat;
            end
            if (finish) begin
                busy_q  <= 1'b0;
                drain_q <= 1'b0;
            end
            if (adv) begin
                s1_valid_q  <= d_fire;
                out_valid_q <= s1_valid_q & s1_last_q;
            end
        end
    end
endmodule
`default_nettype wire

// Handshake of flash_page_gemv: a waiting sum stays as it is, none comes without its row's last beat, none is lost or
// doubled; a page takes as many beats and protected weights as it has, and only then the next vector.
module flash_page_gemv_formal (
    input clk, input rst, input x_valid, input [15:0] x_data, input h_valid, input [71:0] h_thr, input [3:0] h_ne,
    input e_valid, input [25:0] e_data, input d_valid, input [15:0] d_data, input out_ready
);
    wire x_ready, h_ready, e_ready, d_ready, out_valid;
    wire [15:0] out_data, cnt_fixed, cnt_drop, cnt_zero;
    flash_page_gemv #(.PAGE(8), .AW(4), .COLS(4), .CAW(2), .NMAC(2), .NW(1), .ACC_W(16)) dut (
        .clk(clk), .rst(rst), .x_valid(x_valid), .x_ready(x_ready), .x_data(x_data),
        .h_valid(h_valid), .h_ready(h_ready), .h_thr(h_thr), .h_ne(h_ne),
        .e_valid(e_valid), .e_ready(e_ready), .e_data(e_data), .d_valid(d_valid), .d_ready(d_ready), .d_data(d_data),
        .out_valid(out_valid), .out_ready(out_ready), .out_data(out_data),
        .cnt_fixed(cnt_fixed), .cnt_drop(cnt_drop), .cnt_zero(cnt_zero));

    reg past = 0, rst_q = 0, held_q = 0, taken_q = 0;
    reg [15:0] data_q;
    reg [1:0]  loaded = 0;                    // beats of the vector
    reg [2:0]  beats = 0;                     // beats of the page still to come
    reg [3:0]  entries = 0;                   // protected weights still to come
    reg [15:0] taken = 0;                     // protected weights taken since reset
    reg [2:0]  due = 0;                       // rows whose last beat was taken and that have not left
    wire x_fire = x_valid & x_ready, h_fire = h_valid & h_ready, e_fire = e_valid & e_ready, d_fire = d_valid & d_ready;
    wire row  = d_fire & beats[0];            // 4, 3, 2, 1 are left before a beat; a row ends with 3 and 1
    wire left = out_valid & out_ready;
    always @(posedge clk) begin
        past    <= 1;
        rst_q   <= rst;
        held_q  <= out_valid & !out_ready & !rst;
        taken_q <= row & !rst;
        data_q  <= out_data;
        loaded  <= rst | h_fire ? 0 : loaded + x_fire;
        beats   <= rst ? 0 : h_fire ? 4 : beats - d_fire;
        entries <= rst ? 0 : h_fire ? h_ne : entries - e_fire;
        taken   <= rst ? 0 : taken + e_fire;
        due     <= rst ? 0 : due + row - left;
    end
    always @* if (past) begin
        if (held_q) assert(out_valid && out_data == data_q);
        if (rst_q) assert(!out_valid && x_ready && !h_ready && !e_ready && !d_ready);
        if (out_valid) assert(due != 0);
        if (!out_valid) assert(due == taken_q);                       // what was taken an edge before comes out now
        assert(due <= 2);
        if (x_ready | h_ready) assert(beats == 0 && entries == 0 && !e_ready && !d_ready);
        if (x_ready) assert(loaded < 2);
        if (h_ready) assert(loaded == 2 && !x_ready);
        if (d_ready) assert(beats != 0);
        if (e_ready) assert(entries != 0);
        assert(cnt_fixed <= taken && cnt_drop <= taken);
    end
endmodule

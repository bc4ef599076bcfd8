// Handshake of bitserial_mac: a waiting result stays as it is, none comes without its last slice, none is lost or doubled,
// and slices are taken for activations that are there.
module bitserial_mac_formal (
    input clk, input rst, input [1:0] cfg, input wsigned, input a_valid, input [3:0] a_data,
    input w_valid, input [1:0] w_data, input w_last, input out_ready
);
    wire a_ready, w_ready, out_valid, err;
    wire [5:0] out_data;
    bitserial_mac #(.LANES(2), .A_W(2), .W_MAX(3), .BPC(1), .PW(2), .ACC_W(6)) dut (
        .clk(clk), .rst(rst), .cfg_wbits(cfg), .cfg_wsigned(wsigned), .a_valid(a_valid), .a_ready(a_ready), .a_data(a_data),
        .w_valid(w_valid), .w_ready(w_ready), .w_data(w_data), .w_last(w_last),
        .out_valid(out_valid), .out_ready(out_ready), .out_data(out_data), .err(err));

    reg past = 0, rst_q = 0, held_q = 0;
    reg [5:0] data_q;
    reg [2:0] cfg_q;
    reg [1:0] slice = 0;
    reg [2:0] due = 0;                        // results whose last slice was taken and that have not left
    reg [3:0] chunks = 0;                     // activations taken whose last slice was not
    wire [1:0] wbits = cfg == 0 ? 1 : cfg;
    wire last_slice = slice == wbits - 1;
    wire chunk = w_valid & w_ready & last_slice;
    always @(posedge clk) begin
        past   <= 1;
        rst_q  <= rst;
        cfg_q  <= {cfg, wsigned};
        held_q <= out_valid & !out_ready & !rst;
        data_q <= out_data;
        if (rst) slice <= 0;
        else if (w_valid & w_ready) slice <= last_slice ? 0 : slice + 1;
        due    <= rst ? 0 : due + (chunk & w_last) - (out_valid & out_ready);
        chunks <= rst ? 0 : chunks + (a_valid & a_ready) - chunk;
    end
    always @* if (past) begin
        assume({cfg, wsigned} == cfg_q);
        if (held_q) assert(out_valid && out_data == data_q);
        if (rst_q) assert(!out_valid && !err && !w_ready && a_ready);
        if (out_valid) assert(due != 0);
        assert(due <= 2);
        if (w_ready) assert(chunks == 1);
        assert(chunks <= 1);
    end
endmodule

// Handshake of btc_popcount_gemm: rows leave in order, a waiting row stays, none comes without its tile's last plane pair,
// none is lost or doubled, and beats are taken exactly while no drain is under way.
module btc_popcount_gemm_formal (
    input clk, input rst, input [1:0] pa, input [1:0] pw, input bipolar,
    input s_valid, input [1:0] s_a, input s_w, input s_last, input out_ready
);
    wire s_ready, out_valid, out_last, err;
    wire [3:0] out_data;
    btc_popcount_gemm #(.MT(2), .NT(1), .KW(1), .P_MAX(2), .PW(2), .ACC_W(4)) dut (
        .clk(clk), .rst(rst), .cfg_pa(pa), .cfg_pw(pw), .cfg_bipolar(bipolar), .s_valid(s_valid), .s_ready(s_ready),
        .s_a(s_a), .s_w(s_w), .s_last(s_last), .out_valid(out_valid), .out_ready(out_ready), .out_data(out_data),
        .out_last(out_last), .err(err));

    reg past = 0, rst_q = 0, held_q = 0, row = 0, last_q = 0;
    reg [3:0] data_q;
    reg [4:0] cfg_q;
    reg [2:0] pair = 0;                       // plane pairs of the present word taken
    reg [2:0] due = 0;                        // rows whose tile was taken and that have not left
    wire [1:0] a = pa == 0 ? 1 : pa > 2 ? 2 : pa;
    wire [1:0] w = pw == 0 ? 1 : pw > 2 ? 2 : pw;
    wire [3:0] pairs = a * w;
    wire last_pair = pair == pairs - 1;
    wire tile = s_valid & s_ready & last_pair & s_last;
    always @(posedge clk) begin
        past   <= 1;
        rst_q  <= rst;
        cfg_q  <= {pa, pw, bipolar};
        held_q <= out_valid & !out_ready & !rst;
        data_q <= out_data;
        last_q <= out_last;
        if (rst) pair <= 0;
        else if (s_valid & s_ready) pair <= last_pair ? 0 : pair + 1;
        if (rst) row <= 0;
        else if (out_valid & out_ready) row <= !row;
        due <= rst ? 0 : due + 2*tile - (out_valid & out_ready);
    end
    always @* if (past) begin
        assume({pa, pw, bipolar} == cfg_q);
        if (held_q) assert(out_valid && out_data == data_q && out_last == last_q);
        if (rst_q) assert(!out_valid && !err && s_ready);
        if (out_valid) assert(due != 0 && out_last == row);
        assert(s_ready == (!out_valid | (out_ready & out_last)));
        assert(due <= 4);
    end
endmodule

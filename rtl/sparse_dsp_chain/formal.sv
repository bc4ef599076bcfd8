// Handshake of sparse_dsp_chain: waiting results stay as they are, none come without their last beat, none are lost or
// doubled; err comes with a transfer and stays. Operands have one free bit each (weight 0 or -128): it is about control.
module sparse_dsp_chain_formal (
    input clk, input rst, input [1:0] n, input [1:0] split, input s_valid, input a, input w, input s_last, input out_ready
);
    wire s_ready, out_valid, err;
    wire [8*18-1:0] out_data;
    sparse_dsp_chain #(.D(4), .M(2), .XW(1), .NW(2), .ACC_W(18)) dut (
        .clk(clk), .rst(rst), .cfg_n(n), .cfg_split(split), .s_valid(s_valid), .s_ready(s_ready), .s_a0({8{7'd0, a}}),
        .s_a1({8{7'd0, a}}), .s_w({w, 31'd0}), .s_x({4{a}}), .s_last(s_last), .out_valid(out_valid),
        .out_ready(out_ready), .out_data(out_data), .err(err));

    reg past = 0, rst_q = 0, held_q = 0, err_q = 0, moved_q = 0;
    reg [8*18-1:0] data_q;
    reg [3:0] cfg_q;
    reg [2:0] due = 0;
    always @(posedge clk) begin
        past    <= 1;
        rst_q   <= rst;
        cfg_q   <= {n, split};
        held_q  <= out_valid & !out_ready & !rst;
        data_q  <= out_data;
        err_q   <= err & !rst;
        moved_q <= s_valid & s_ready & !rst;
        due     <= rst ? 0 : due + (s_valid & s_ready & s_last) - (out_valid & out_ready);
    end
    always @* if (past) begin
        assume(cfg_q == {n, split});
        if (held_q) assert(out_valid && out_data == data_q);
        if (rst_q) assert(!out_valid && !err && s_ready);
        if (err_q) assert(err);
        if (err & !err_q) assert(moved_q);
        if (out_valid) assert(due != 0);
        assert(due <= 3);
    end
endmodule

// Term generator and term-serial PE: dot product of FP16 activations with weights of mixed data types, times a group scale.
// Cycles: a quad is held for as many edges as its type has terms; a group's result follows 3 + D_W edges after its last term.
`default_nettype none
module bitmod_unit #(
    parameter ACC_W = 24,                     // accumulator [bit]: holds 2^(ACC_W-17) terms
    parameter D_W   = 8                       // scale of a group [bit], unsigned
) (
    input  wire                   clk,
    input  wire                   rst,
    input  wire [2:0]             cfg_dtype,  // 0 INT8, 1 INT6, 2 INT4, 4 EFP4, 5 EFP3
    input  wire [31:0]            cfg_sv_file,
    input  wire                   s_valid,
    output wire                   s_ready,    // on the last term of a quad
    input  wire [63:0]            s_act,      // four FP16 activations
    input  wire [31:0]            s_wcode,    // four codes, right aligned
    input  wire [1:0]             s_svsel,    // special value of the group
    input  wire                   s_last,     // last quad of a group
    input  wire [D_W-1:0]         s_scale,    // sampled with s_last
    output wire                   out_valid,
    input  wire                   out_ready,
    output wire [ACC_W+D_W-1:0]   out_man,    // value = man * 2^(exp - 28), EFP types 2^(exp - 29)
    output wire [5:0]             out_exp,
    output wire                   err         // an infinity, a NaN or a type that does not exist came in
);
    generate
        if (ACC_W < 18) begin : g_bad_acc bitmod_unit_requires_ACC_W_at_least_18 stop(); end
        if (D_W < 3)    begin : g_bad_d   bitmod_unit_requires_D_W_at_least_3 stop(); end
    endgenerate

    reg  [1:0]  step_q;
    reg         err_q;
    reg  [7:0]  special;
    wire [15:0] term;
    wire [2:0]  bsig;
    wire        last_step, ready, bad;
    wire        illegal = (&cfg_dtype[1:0]) | (cfg_dtype == 3'd6);
    assign s_ready = ready & last_step;
    assign err     = err_q;

    integer i;
    always @* begin
        special = 8'd0;
        for (i = 0; i < 4; i = i + 1)
            if (s_svsel == i[1:0]) special = special | cfg_sv_file[i*8 +: 8];
    end

    always @(posedge clk)
        if (rst) begin
            step_q <= 2'd0;
            err_q  <= 1'b0;
        end else if (s_valid & ready) begin
            step_q <= last_step ? 2'd0 : step_q + 2'd1;
            if (last_step & (bad | illegal)) err_q <= 1'b1;
        end

    bitmod_term_gen terms (
        .dtype(cfg_dtype), .step(step_q), .special(special), .code(s_wcode), .term(term), .bsig(bsig), .last(last_step)
    );

    bitmod_pe #(.ACC_W(ACC_W), .D_W(D_W)) pe (
        .clk(clk), .rst(rst), .t_valid(s_valid), .t_ready(ready), .t_act(s_act), .t_term(term), .t_bsig(bsig),
        .t_last(last_step & s_last), .t_scale(s_scale), .bad(bad),
        .out_valid(out_valid), .out_ready(out_ready), .out_man(out_man), .out_exp(out_exp)
    );
endmodule
`default_nettype wire

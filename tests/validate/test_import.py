"""Import of other projects' files: small made-up samples with their real fields; what cannot be true is reported."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from sim.cli import main
from validate import fit_gemm
from validate.import_checks import reasons
from validate.measured import read


def _run(*args: str | Path) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["calibrate", "import", *map(str, args)])
    return int(caught.value.code or 0)


def _csv(path: Path, header: str, *rows: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join((header, *rows)) + "\n")
    return path


def _rejects(out: Path) -> list[dict[str, str]]:
    with (out / "rejects.csv").open() as f:
        return list(csv.DictReader(f))


AIC = "framework,version,device,op_name,kernel_source"
GEMM = f"{AIC},gemm_dtype,m,n,k,latency"


def test_aiconfigurator_gemm(tmp_path):
    path = _csv(tmp_path / "h200_sxm" / "gemm_perf.csv", GEMM,
                "TRTLLM,1.3.0rc20,NVIDIA H200,gemm,torch_flow,bfloat16,4096,4096,4096,0.22",
                "TRTLLM,1.3.0rc20,NVIDIA H200,gemm,torch_flow,fp8_block,16,4096,4096,0.012",
                "TRTLLM,1.3.0rc20,NVIDIA H200,gemm,torch_flow,fp5,16,4096,4096,0.012",
                "TRTLLM,1.3.0rc20,NVIDIA H200,gemm,torch_flow,fp8,16,4096,4096,0.0",
                "TRTLLM,1.3.0rc20,NVIDIA H200,gemm,torch_flow,bfloat16,8192,8192,8192,0.1")
    out = tmp_path / "out"
    assert _run(path, "-o", out) == 0
    t = read("gemm", out)
    assert list(t["quant"]) == ["none", "fp8_block128"]
    assert list(t["time_s"]) == pytest.approx([2.2e-4, 1.2e-5])          # milliseconds there, seconds here
    assert set(t["device"]) == {"h200_sxm"}
    assert set(t["framework"]) == {"trtllm-1.3.0rc20"}
    why = {r["line"]: r["reason"] for r in _rejects(out)}
    assert why == {"4": "gemm_dtype 'fp5' is not known", "5": "time_s is not above zero",
                   "6": "faster than the peak rates of h200_sxm"}
    assert len(fit_gemm.table(out)) == 2                                 # and the fits read it


def test_parquet_reads_like_csv_and_is_an_extra(tmp_path, capsys):
    path = tmp_path / "h200_sxm" / "gemm_perf.parquet"
    path.parent.mkdir()
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        path.write_bytes(b"PAR1")
        assert _run(path, "-o", tmp_path / "out") == 4
        assert "perfboard[measured]" in capsys.readouterr().err
        return
    pq.write_table(pa.table({"framework": ["VLLM"], "version": ["0.24.0"], "device": ["NVIDIA H200"], "op_name": ["gemm"],
                             "kernel_source": ["x"], "gemm_dtype": ["bfloat16"], "m": [1], "n": [4096], "k": [4096],
                             "latency": [0.011]}), path)
    assert _run(path, "-o", tmp_path / "out") == 0
    assert read("gemm", tmp_path / "out")["time_s"][0] == pytest.approx(1.1e-5)


def test_aiconfigurator_attention_moe_and_nccl(tmp_path):
    base = tmp_path / "data" / "h200_sxm"
    _csv(base / "generation_attention_perf.csv",
         f"{AIC},batch_size,isl,num_heads,num_key_value_heads,head_dim,beam_width,attn_dtype,kv_cache_dtype,step,window_size,"
         "latency",
         "VLLM,0.24.0,NVIDIA H200,generation_attention,fa3,32,1,64,8,128,1,bfloat16,fp8,4095,0,0.09")
    _csv(base / "moe_perf.csv",
         f"{AIC},moe_dtype,num_tokens,hidden_size,inter_size,topk,num_experts,moe_tp_size,moe_ep_size,distribution,latency",
         "SGLang,0.5.10,NVIDIA H200,moe,triton,bfloat16,2,4096,14336,2,8,2,1,balanced,0.357",
         "SGLang,0.5.10,NVIDIA H200,moe,triton,bfloat16,2,4096,14336,2,8,1,4,balanced,0.357")
    _csv(base / "nccl" / "2.29.2" / "nccl_perf.csv", "nccl_dtype,num_gpus,message_size,kernel_source,op_name,latency",
         "half,2,1024,NCCL,all_gather,0.00614")
    out = tmp_path / "out"
    assert _run(base, "-o", out) == 0
    attention, moe, collective = (read(t, out) for t in ("attention", "moe", "collective"))
    assert (attention["phase"][0], attention["kv_len"][0], attention["dtype_kv"][0]) == ("decode", 4096.0, "fp8")
    assert list(moe["tp"]) == [2.0]
    assert (collective["bytes"][0], collective["framework"][0]) == (2048.0, "nccl-2.29.2")     # elements there, bytes here
    assert [r["reason"] for r in _rejects(out)] == ["expert parallelism has no column"]


def test_vidur_layers_and_network(tmp_path):
    names = ("emb", "input_layernorm", "attn_pre_proj", "attn_rope", "attn_post_proj", "mlp_up_proj", "mlp_act",
             "mlp_down_proj", "add")
    header = ",".join(f"time_stats.{n}.{s}" for n in names for s in ("min", "median"))
    times = dict.fromkeys(names, 0.1) | {"attn_pre_proj": 1.9, "mlp_up_proj": 3.4, "mlp_down_proj": 1.6, "attn_post_proj": 0.6,
                                         "mlp_act": 0.26}
    path = _csv(tmp_path / "compute" / "a100" / "meta" / "Llama-2-7b-hf" / "mlp.csv",
                header + ",n_head,n_kv_head,n_embd,n_expanded_embd,vocab_size,use_gated_mlp,num_tokens,"
                "num_tensor_parallel_workers",
                ",".join(f"0.01,{times[n]}" for n in names) + ",32,32,4096,11008,32768,True,4096,2")
    network = _csv(tmp_path / "network" / "a100_dgx" / "all_reduce.csv",
                   ",time_stats.all_reduce.min,time_stats.all_reduce.median,rank,num_workers,size,collective,devices_per_node,"
                   "max_devices_per_node", "0,0.03,0.043,0,2,2048,all_reduce,1,8", "1,0.03,0.03,0,4,2048,all_reduce,4,8")
    out = tmp_path / "out"
    assert _run(path, network, "-o", out) == 0
    gemm = read("gemm", out)
    shapes = {op: (m, n, k) for op, m, n, k in zip(*(gemm[c] for c in ("op", "m", "n", "k")), strict=True)}
    assert shapes == {"attn_qkv_proj": (4096, 6144, 4096), "attn_out_proj": (4096, 4096, 2048),
                      "mlp_up_proj": (4096, 11008, 4096), "mlp_down_proj": (4096, 4096, 5504)}
    assert set(gemm["device"]) == {"a100_80gb"}
    assert set(gemm["model"]) == {"Llama-2-7b-hf"}
    streams = read("elementwise", out)
    assert dict(zip(streams["op"], streams["bytes_rw"], strict=True)) == {
        "rmsnorm": 4096 * 4096 * 4.0, "rope": 4096 * 4096 * 4.0, "silu_mul": 4096 * 5504 * 6.0, "add": 4096 * 4096 * 6.0}
    links = read("collective", out)
    assert list(links["devices_per_node"]) == [1.0, 4.0]
    assert list(links["link"]) == ["nvswitch+internode", "nvswitch"]
    assert [r["reason"] for r in _rejects(out)] == ["emb: several kernels under one name"]


def test_neusight(tmp_path):
    path = _csv(tmp_path / "train.csv", "OPName,Latency,Device,Kernel Name,Grid x,B,M,N,K,H",
                "bmm,0.1203,NVIDIA A100 80GB PCIe,sgemm,1,35,17,27,524,",
                "linear,0.5,NVIDIA A100 80GB PCIe,sgemm,1,4,128,1024,1024,",
                "add,0.027,NVIDIA A100 80GB PCIe,vec,1,9,,,,778", "ln,0.04,NVIDIA A100 80GB PCIe,vec,1,9,,,,778",
                "conv2d,0.04,NVIDIA A100 80GB PCIe,conv,1,9,,,,778")
    out = tmp_path / "out"
    assert _run(path, "-o", out, "--device", "a100_pcie_80gb") == 0
    gemm, streams = read("gemm", out), read("elementwise", out)
    assert list(zip(gemm["op"], gemm["m"], gemm["batch"], strict=True)) == [("bmm", 17.0, 35.0), ("linear", 512.0, 1.0)]
    assert list(zip(streams["op"], streams["bytes_rw"], strict=True)) == [("add", 9 * 778 * 12.0), ("layernorm", 9 * 778 * 8.0)]
    assert "conv2d" in _rejects(out)[0]["reason"]


def test_vllm_bench_points_and_requests(tmp_path):
    path = tmp_path / "run.json"
    path.write_text(json.dumps({
        "date": "20260101-120000", "backend": "vllm", "model_id": "m", "completed": 2, "failed": 0, "total_input_tokens": 2000,
        "total_output_tokens": 6, "mean_ttft_ms": 50.0, "mean_tpot_ms": 10.0, "max_concurrency": 2, "tp": 4,
        "input_lens": [900, 1100], "output_lens": [3, 3], "ttfts": [0.04, 0.06], "itls": [[0.01, 0.01], [0.01, 0.01]],
        "start_times": [100.0, 101.5]}))
    out = tmp_path / "out"
    assert _run(path, "-o", out, "--device", "h200_sxm") == 0
    point, requests = read("serving_points", out), out / "serving_requests.csv"
    found = [float(point[c][0]) for c in ("input_len", "concurrency", "tp", "ttft_s", "tpot_s")]
    assert found == pytest.approx([1000, 2, 4, 0.05, 0.01])
    with requests.open() as f:
        rows = list(csv.DictReader(f))
    assert [(r["arrival_s"], r["total_s"]) for r in rows] == [("0", "0.06"), ("1.5", "0.08")]


def _metric(value: float, unit: str) -> dict[str, object]:
    return {"value": value, "unit": unit}


def test_aiperf_records(tmp_path):
    def record(start: int, **more: object) -> str:
        metrics = {"time_to_first_token": _metric(50, "ms"), "request_latency": _metric(1000, "ms"),
                   "inter_token_latency": _metric(10, "ms"), "input_sequence_length": _metric(512, "tokens"),
                   "output_sequence_length": _metric(96, "tokens")}
        meta = {"request_start_ns": start, "request_end_ns": start + 10 ** 9}
        return json.dumps({"metadata": meta, "metrics": metrics, **more})

    path = tmp_path / "profile_export.jsonl"
    path.write_text("\n".join([record(10 ** 9), record(15 * 10 ** 8), record(2 * 10 ** 9, error={"message": "x"})]) + "\n")
    out = tmp_path / "out"
    assert _run(path, "-o", out, "--device", "h200_sxm") == 0
    point = read("serving_points", out)
    assert [point[c][0] for c in ("ttft_s", "tpot_s", "input_len")] == pytest.approx([0.05, 0.01, 512])
    assert point["concurrency"][0] == pytest.approx(2.0 / 1.5, abs=0.01)     # two requests of 1 s in 1.5 s
    assert [(r["line"], r["reason"]) for r in _rejects(out)] == [("3", "the request failed")]
    path.write_text("{}\n")
    assert _run(path, "-o", out, "--device", "h200_sxm") == 2


def test_inferencex_and_the_public_serving_points(tmp_path):
    agg = tmp_path / "agg_x.json"
    agg.write_text(json.dumps({"hw": "h200", "conc": 16, "image": "i", "model": "m", "framework": "sglang", "precision": "fp8",
                               "isl": 1024, "osl": 1024, "tp": 8, "ep": 1, "dp_attention": "false", "tput_per_gpu": 900.0,
                               "median_ttft": 0.2, "mean_ttft": 0.25, "mean_tpot": 0.012, "median_intvty": 83.3}))
    sample = _csv(tmp_path / "silicon_sample.csv",
                  "id,backend,backend_version,model_path,system,precision,mode,isl,osl,gemm_quant_mode,moe_quant_mode,batch_size,"
                  "tp_size,pp_size,attention_dp_size,moe_tp_size,moe_ep_size,silicon_ttft_ms,silicon_tpot_ms",
                  "a,vllm,0.19.0,m,b300_sxm,fp8,agg,8192,1024,fp8,fp8,128,4,1,1,4,1,972.3,33.4",
                  "b,vllm,0.19.0,m,b300_sxm,fp8,disagg,8192,1024,fp8,fp8,128,4,1,1,4,1,972.3,33.4")
    out = tmp_path / "out"
    assert _run(agg, "-o", out, "--device", "h200_sxm") == 0
    assert _run(sample, "-o", out) == 0
    t = read("serving_points", out)
    assert list(t["ttft_s"]) == pytest.approx([0.25, 0.9723])
    assert list(t["concurrency"]) == [16.0, 128.0]
    assert list(t["device"]) == ["h200_sxm", "b300_sxm"]
    assert [r["reason"] for r in _rejects(out)] == ["disaggregated serving has no columns"]


def test_chrome_trace_gives_products_their_shapes(tmp_path):
    mm = {"ph": "X", "cat": "cpu_op", "name": "aten::addmm", "ts": 0, "dur": 9,
          "args": {"External id": 7, "Input Dims": [[4096], [16, 1024], [1024, 4096], []],
                   "Input type": ["c10::BFloat16", "c10::BFloat16", "c10::BFloat16", "Scalar"]}}
    kernel = {"ph": "X", "cat": "kernel", "ts": 5, "pid": 0, "tid": 7, "args": {"External id": 7, "stream": 7}}
    trace = {"deviceProperties": [{"id": 0, "name": "NVIDIA GeForce RTX 4090"}],
             "traceEvents": [mm, *({**kernel, "name": "gemm", "dur": d} for d in (14.0, 12.0, 13.0)),
                             {**kernel, "name": "vectorized_elementwise", "dur": 3.0, "args": {"External id": 99}}]}
    path = tmp_path / "trace.json.gz"
    with gzip.open(path, "wt") as f:
        json.dump(trace, f)
    out = tmp_path / "out"
    assert _run(path, "-o", out) == 0
    gemm = read("gemm", out)
    assert [gemm[c][0] for c in ("m", "n", "k", "dtype_a", "device")] == [16.0, 4096.0, 1024.0, "bf16", "rtx_4090"]
    assert gemm["time_s"][0] == pytest.approx(1.3e-5)                    # the median of three
    with (out / "kernels.csv").open() as f:
        assert next(csv.DictReader(f))["kernel"] == "vectorized_elementwise"


def test_rows_that_were_there_are_not_added_twice(tmp_path):
    path = _csv(tmp_path / "h200_sxm" / "g.csv", GEMM, "VLLM,1,NVIDIA H200,gemm,x,bfloat16,16,4096,4096,0.02")
    _run(path, "-o", tmp_path / "out")
    _run(path, "-o", tmp_path / "out")
    assert len(read("gemm", tmp_path / "out")) == 1


@pytest.mark.parametrize(("name", "content", "message"), [
    ("x.json", "{", "expected JSON"), ("x.json", "{}", "no known layout"), ("x.csv", "a,b\n1\n", "x.csv:2: 1 cells"),
    ("x.csv", "a,b\n1,2\n", "no row of any known layout"), ("x.txt", "", "not a kind of file"),
    ("x.csv", GEMM + "\nVLLM,1,,gemm,x,bfloat16,16,4096,4096,0.02\n", "--device")])
def test_bad_files_are_one_line(tmp_path, capsys, name, content, message):
    path = tmp_path / name
    path.write_text(content)
    assert _run(path, "-o", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said


# -- checks --------------------------------------------------------------------------------------------------------------

def _gemm(m, time, **more):
    n = len(m)
    same = {"device": "h200_sxm", "framework": "f", "dtype_a": "bf16", "dtype_w": "bf16", "quant": "none"} | more
    return {"m": np.array(m, float), "n": np.full(n, 4096.0), "k": np.full(n, 4096.0), "batch": np.ones(n),
            "time_s": np.array(time, float)} | {k: np.full(n, v, dtype=object) for k, v in same.items()}


def test_a_hiccup_is_found_and_its_neighbours_stay():
    why = reasons("gemm", _gemm([16, 32, 64, 128], [2e-5, 9e-5, 2.1e-5, 2.2e-5]))
    assert list(why != "") == [False, True, False, False]
    assert "larger m" in why[1]


def test_faster_than_the_device_counts_only_for_known_devices_and_beyond_clock_boosts():
    peak = 2 * 4096 ** 3 / 989e12
    assert list(reasons("gemm", _gemm([4096], [0.5 * peak]))) == ["faster than the peak rates of h200_sxm"]
    assert list(reasons("gemm", _gemm([4096], [0.95 * peak]))) == [""]
    assert list(reasons("gemm", _gemm([4096], [0.5 * peak], device="nobody_knows"))) == [""]


def test_weights_that_stay_in_l2_may_beat_the_memory_and_larger_ones_may_not():
    nbytes = 4096 * 4096 * 2.0
    assert list(reasons("gemm", _gemm([1], [nbytes / 6e12]))) == [""]
    large = _gemm([1], [8 * nbytes / 6e12]) | {"n": np.array([32768.0])}
    assert list(reasons("gemm", large)) == ["faster than the peak rates of h200_sxm"]


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), float("inf")])
def test_no_time_is_no_row(bad):
    assert list(reasons("gemm", _gemm([1, 16], [bad, 2e-5]))) == ["time_s is not above zero", ""]

import assert from "node:assert/strict";
import { Tunnel } from "@weir/proto/flow";
import { GetFlowsResponse } from "@weir/proto/observer";
import { UsageError } from "../context.ts";
import { type FlowForm, FlowPrinter } from "./flow_printer.ts";
import { harmless } from "../harmless_text.ts";
import { answerLines, LINE_LENGTH_MAX, linesOf } from "./input_file.ts";
import { readObserveArgs } from "./request.ts";
import { timeText } from "./time_text.ts";

const PRINT = { names: true, why: true, colours: false, timeFormat: "StampMilli" };
function flowText(answer: GetFlowsResponse, form: FlowForm, { node }: { node: boolean }): string {
  return new FlowPrinter({ ...PRINT, form, node }).text(answer);
}

Deno.test("readObserveArgs() makes query parameters of Hubble's flags", () => {
  const args = [
    "-f",
    "--pod",
    "shop/cart",
    "--not",
    "--verdict=FORWARDED",
    "-n",
    "shop",
    "-o",
    "json",
    "--last",
    "5",
  ];
  assert.deepEqual(readObserveArgs(args), {
    query: { "last": ["5"], "pod": ["shop/cart"], "not-verdict": ["FORWARDED"], "namespace": ["shop"] },
    form: "json",
    follow: true,
    printNode: undefined,
    why: true,
    names: true,
    timeFormat: "StampMilli",
    color: "auto",
    silent: false,
    printRawFilters: false,
    inputFile: "",
    groupBy: [],
    server: {
      isTls: false,
      isInsecure: false,
      authorityFiles: [],
      certFile: undefined,
      keyFile: undefined,
      serverName: undefined,
      timeoutMs: 5000,
    },
  });
  assert.deepEqual(readObserveArgs(["-4", "--not", "-A", "--unencrypted", "-ojson"]).query, {
    "ip-version": ["4"],
    "not-namespace": [""],
    encrypted: ["false"],
  });
  assert.deepEqual(readObserveArgs(["--not-reply", "--not", "--reply", "-o", "jsonpb"]).query, {
    reply: ["false"],
    "not-reply": ["true"],
  });
  const asked = readObserveArgs([
    "--ip-translation=false",
    "--print-policy-names=false",
    "--use-default-field-masks=false",
  ]);
  assert.deepEqual([asked.names, asked.why, asked.query], [false, false, {}]);
  assert.equal(readObserveArgs(["--numeric=true", "--silent-errors"]).names, false);
  assert.match(readObserveArgs([]).query["field-mask"][0], /^time,verdict,/);
  for (
    const bad of [
      ["x"],
      ["--not"],
      ["--not", "--not", "--pod", "a"],
      ["--pod"],
      ["-o", "xml"],
      [
        "-f",
        "-o",
        "table",
      ],
      ["--numeric=maybe"],
      ["--reply=false"],
      ["--color", "blue"],
      ["--first", "x"],
      ["--verdcit", "DROPPED"],
    ]
  ) {
    assert.throws(() => readObserveArgs(bad), UsageError, bad.join(" "));
  }
});

Deno.test("flowText() prints what people know from hubble observe, with the policy that decided", () => {
  const answer = GetFlowsResponse.create({
    node_name: "default/node-1",
    flow: {
      time: { seconds: 0, nanos: 5_000_000 },
      verdict: "DROPPED",
      drop_reason_desc: "POLICY_DENIED",
      event_type: { type: 1, sub_type: 133 },
      IP: { source: "10.0.1.5", destination: "fd00::7" },
      l4: { TCP: { source_port: 4000, destination_port: 80 } },
      source: { namespace: "shop", pod_name: "cart", identity: 300 },
      destination: { identity: 2 },
      ingress_denied_by: [{
        name: "db",
        namespace: "shop",
        kind: "CiliumNetworkPolicy",
        path: "spec",
        file: "db.yaml",
        line: 5,
      }],
      Summary: "TCP Flags: SYN",
    },
  });
  assert.match(
    flowText(answer, "compact", { node: true }),
    / \[default\/node-1\]: shop\/cart:4000 \(ID:300\) <> \[fd00::7\]:80 \(world\) Policy denied DROPPED BY default deny of shop\/db \(CiliumNetworkPolicy db\.yaml:5\) \(TCP Flags: SYN\)\n$/,
  );
  answer.flow!.tunnel = Tunnel.create({ protocol: "VXLAN", IP: { source: "192.0.2.66" }, vni: 300 });
  assert.match(
    flowText(answer, "compact", { node: true }),
    / \(TCP Flags: SYN; VXLAN from 192\.0\.2\.66 VNI 300\)\n$/,
  );
  answer.flow!.event_type = { type: 4, sub_type: 0 };
  answer.flow!.trace_observation_point = "TO_ENDPOINT";
  answer.flow!.verdict = "FORWARDED";
  answer.flow!.ingress_denied_by = [];
  answer.flow!.is_reply = { value: true };
  assert.match(
    flowText(answer, "compact", { node: false }),
    /\[fd00::7\]:80 \(world\) <- shop\/cart:4000 \(ID:300\) to-endpoint FORWARDED/,
  );
  assert.match(flowText(answer, "dict", { node: false }), /^ {2}TIMESTAMP: .*\n {5}SOURCE: shop\/cart/);
  answer.flow!.destination_service = { namespace: "shop", name: "db" };
  answer.flow!.source_service = { namespace: "shop", name: "front" };
  answer.flow!.is_reply = { value: false };
  assert.match(
    flowText(answer, "compact", { node: false }),
    /: shop\/cart:4000 \(ID:300\) -> shop\/db:80 \(world\)/,
  );
  const tabled = new FlowPrinter({ ...PRINT, form: "table", node: false });
  assert.equal(tabled.text(answer), "");
  assert.match(tabled.end(), /^TIMESTAMP +SOURCE.*\n.* shop\/db:80 /);
  assert.deepEqual(GetFlowsResponse.fromJson(JSON.parse(flowText(answer, "json", { node: false }))), answer);
  // nobody serves: no pod and no identity at that end, but a service
  answer.flow!.event_type = { type: 1, sub_type: 158 };
  answer.flow!.verdict = "DROPPED";
  answer.flow!.destination!.identity = 0;
  assert.match(
    flowText(answer, "compact", { node: false }),
    /: shop\/cart:4000 \(ID:300\) -> shop\/db:80 \(service\) Service backend not found DROPPED/,
  );
  answer.flow!.destination_service = undefined;
  assert.match(flowText(answer, "compact", { node: false }), / -> \[fd00::7\]:80 \(unknown\) /);
});

Deno.test("FlowPrinter parts records of dict, tells what was lost, and obeys nothing that came from the network", () => {
  const dict = new FlowPrinter({ ...PRINT, form: "dict", node: true });
  const flow = {
    time: { seconds: 0, nanos: 0 },
    Summary: "GET http://a/\x1b]0;x\x07\r\n",
    node_name: "default/a",
  };
  const answer = GetFlowsResponse.create({ flow });
  const first = dict.text(answer);
  assert.match(first, /NODE: default\/a\n/);
  assert.match(first, /SUMMARY: GET http:\/\/a\/\^\[\]0;x\\u0007\\r\\n\n$/);
  assert.equal(dict.text(answer), `------------\n${first}`);
  assert.equal(harmless("a\u009bb\u007f\tc"), "a\\u009bb\\u007f c");
  const lost = GetFlowsResponse.create({
    lost_events: { source: "PERF_EVENT_RING_BUFFER", num_events_lost: 3, holder: "shop/cart" },
    time: { seconds: 86_400, nanos: 0 },
  });
  assert.equal(
    flowText(lost, "compact", { node: false }),
    "Jan  2 00:00:00.000 EVENTS LOST: PERF_EVENT_RING_BUFFER CPU(0) 3 of shop/cart\n",
  );
  const away = GetFlowsResponse.create({
    node_status: { state_change: "NODE_UNAVAILABLE", node_names: ["default/b"] },
    node_name: "relay",
    time: { seconds: 0, nanos: 0 },
  });
  assert.equal(dict.text(away), "");
  assert.match(dict.warning(away), /\[relay\]: 1 nodes are unavailable: default\/b\n$/);
});

Deno.test("timeText() says a time that cannot be one", () => {
  assert.equal(timeText(undefined), "N/A");
  assert.equal(timeText({ seconds: 1e15, nanos: 0 }), "N/A");
  assert.equal(timeText({ seconds: 0, nanos: 120_000_000 }, "RFC3339Nano"), "1970-01-01T00:00:00.12Z");
});

Deno.test("answerLines() reads on after what is no flow, and linesOf() reads no line without an end", async () => {
  const warned: string[] = [];
  const lines = [
    '{"flow":{"uuid":"1","verdict":"DROPPED"}}',
    "no json",
    "",
    '{"flow":{"uuid":"2","verdict":"DROPPED","new_field":{"a":1},"source":{"other":[1]}}}',
    '{"flow":{"uuid":"3","verdict":"FORWARDED"}}',
  ];
  const asked = async (query: Record<string, string[]>) => {
    const uuids: string[] = [];
    const source = (async function* () {
      yield* lines;
    })();
    for await (const { flow } of answerLines(source, query, (text) => warned.push(text))) {
      uuids.push(flow!.uuid);
    }
    return uuids;
  };
  assert.deepEqual(await asked({ verdict: ["DROPPED"] }), ["1", "2"]);
  assert.match(warned[0], /^line 2 is no flow/);
  assert.match(warned[1], /^field flow\.new_field is not known/);
  assert.equal(warned.length, 2, "it is said once");
  assert.deepEqual(await asked({ last: ["1"] }), ["3"]);
  assert.deepEqual(await asked({ first: ["1"] }), ["1"]);
  await assert.rejects(() => asked({ last: ["99999999"] }), /at most 1000000/);
  const endless = new ReadableStream<Uint8Array<ArrayBuffer>>({
    pull: (controller) => controller.enqueue(new Uint8Array(1 << 16).fill(97)),
  });
  await assert.rejects(async () => {
    for await (const _ of linesOf(endless)) assert.fail("there is no line");
  }, new RegExp(`longer than ${LINE_LENGTH_MAX}`));
});

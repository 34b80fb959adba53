import assert from "node:assert/strict";
import { ProblemError } from "@weir/common";
import { Flow, type FlowFilter } from "@weir/proto/flow";
import type { Init } from "@weir/proto";
import { compileFilters, readIdentity } from "./flow_filter.ts";

const flow = Flow.create({
  verdict: "DROPPED",
  drop_reason_desc: "POLICY_DENIED",
  IP: { source: "10.0.1.5", destination: "fd00::7", ipVersion: "IPv4" },
  l4: { TCP: { source_port: 4000, destination_port: 8080, flags: { SYN: true, ACK: true } } },
  source: {
    namespace: "shop",
    pod_name: "cart-abc",
    identity: 300,
    labels: ["k8s:app=cart", "k8s:tier=web"],
  },
  destination: { identity: 2, labels: ["reserved:world"] },
  destination_names: ["api.example.org"],
  event_type: { type: 1, sub_type: 133 },
  traffic_direction: "EGRESS",
  node_name: "node-a",
});

Deno.test("compileFilters() follows Hubble's rule for every field", () => {
  const cases: [Init<FlowFilter>, boolean][] = [
    [{}, true],
    [{ source_ip: ["10.0.1.5"] }, true],
    [{ source_ip: ["10.0.0.0/16"] }, true],
    [{ source_ip: ["10.0.1.6", "10.2.0.0/16"] }, false],
    [{ destination_ip: ["fd00::/16"] }, true],
    [{ source_pod: ["shop/cart"] }, true],
    [{ source_pod: ["cart"] }, false],
    [{ source_pod: ["shop/"] }, true],
    [{ source_pod: ["/cart"] }, true],
    [{ destination_pod: ["/"] }, false],
    [{ source_label: ["app=cart,tier in (web, db)"] }, true],
    [{ source_label: ["k8s:app"] }, true],
    [{ source_label: ["!app", "app!=x"] }, true],
    [{ source_label: ["app notin (cart)"] }, false],
    [{ source_identity: [2, 300] }, true],
    [{ destination_fqdn: ["*.example.org"] }, true],
    [{ destination_fqdn: ["example.org"] }, false],
    [{ destination_port: ["8080"], protocol: ["TCP"] }, true],
    [{ destination_port: ["8080"], protocol: ["udp"] }, false],
    [{ source_port: ["8080"] }, false],
    [{ tcp_flags: [{ SYN: true }] }, true],
    [{ tcp_flags: [{ SYN: true, FIN: true }, { RST: true }] }, false],
    [{ verdict: ["FORWARDED", "DROPPED"] }, true],
    [{ drop_reason_desc: ["POLICY_DENIED"] }, true],
    [{ drop_reason_desc: ["POLICY_DENY"] }, false],
    [{ event_type: [{ type: 1 }] }, true],
    [{ event_type: [{ type: 1, match_sub_type: true, sub_type: 132 }] }, false],
    [{ event_type: [{ type: 0 }] }, true],
    [{ reply: [false] }, true],
    [{ reply: [true] }, false],
    [{ node_name: ["default/node-*"] }, true],
    [{ node_name: ["default/"] }, true],
    [{ node_name: ["other/node-a"] }, false],
    [{ ip_version: ["IPv4"] }, true],
    [{ traffic_direction: ["INGRESS"] }, false],
  ];
  for (const [filter, expected] of cases) {
    assert.equal(compileFilters([filter], [])(flow), expected, JSON.stringify(filter));
    assert.equal(compileFilters([], [filter])(flow), !expected, `not ${JSON.stringify(filter)}`);
  }
  assert.equal(compileFilters([{ source_port: ["1"] }, { source_port: ["4000"] }], [])(flow), true);
});

Deno.test("compileFilters() refuses what it cannot read or does not support, by field", () => {
  const cases: [Init<FlowFilter>, RegExp][] = [
    [{ source_ip: ["10.0.1"] }, /source_ip "10.0.1": expected an address/],
    [{ source_pod: [""] }, /source_pod/],
    [{ destination_port: ["http"] }, /destination_port "http"/],
    [{ protocol: ["ipx"] }, /protocol "ipx": expected icmp/],
    [{ source_fqdn: ["a b"] }, /source_fqdn/],
    [{ http_status_code: ["600"] }, /http_status_code "600": expected a status/],
    [{ http_method: ["GET"], event_type: [{ type: 1 }] }, /expected l7/],
    [{ source_port: new Array(2000).fill("1") }, /at most 1024/],
  ];
  for (const [filter, pattern] of cases) {
    assert.throws(
      () => compileFilters([filter], []),
      (e: Error) => e instanceof ProblemError && pattern.test(e.message),
    );
  }
  assert.equal(readIdentity("world"), 2);
  assert.throws(() => readIdentity("nobody"), ProblemError);
});

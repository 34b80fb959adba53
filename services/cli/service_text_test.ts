import { equal, match } from "node:assert/strict";
import { Backend, Service } from "@weir/proto/loadbalancer";
import { render } from "./output.ts";
import { describeService, SERVICE_COLUMNS } from "./service_text.ts";

const NOW_S = 1_700_000_000;

const WEB = Service.create({
  name: "default/web",
  namespace: "default",
  serviceName: "web",
  type: "LoadBalancer",
  clusterIps: ["10.96.1.1", "fd00:10:96::101"],
  externalIps: ["192.0.2.1"],
  backends: 3,
  activeBackends: 2,
  createdUnixS: Date.now() / 1000 - 300,
  file: "web.yaml",
  line: 4,
  ports: [{
    name: "7",
    id: 7,
    protocol: "TCP",
    portName: "http",
    algorithm: "MAGLEV",
    tableSize: 1021,
    forwarding: "DSR",
    externalTrafficPolicy: "LOCAL",
    internalTrafficPolicy: "CLUSTER",
    affinityTimeoutS: 60,
    sourceRanges: ["198.51.100.0/24"],
    frontends: [
      { kind: "CLUSTER_IP", address: "10.96.1.1", port: 80 },
      { kind: "LOAD_BALANCER", address: "192.0.2.1", port: 80 },
      { kind: "NODE_PORT", port: 30080 },
    ],
  }],
});

Deno.test("SERVICE_COLUMNS show what kubectl shows, and how many backends are active", () => {
  const [, line] = render([WEB], SERVICE_COLUMNS, "table").split("\n");
  equal(
    line.replace(/ {3,}/g, "|"),
    "default|web|LoadBalancer|10.96.1.1,fd00:10:96::101|192.0.2.1|80:30080/TCP|2/3|5m0s",
  );
  match(
    render([WEB], SERVICE_COLUMNS, "wide"),
    /maglev\/1021 +dsr +external Local, internal Cluster +ClientIP 60s/,
  );
  const headless = Service.create({
    name: "a/h",
    namespace: "a",
    serviceName: "h",
    type: "ClusterIP",
    ignored: "headless: DNS",
  });
  match(render([headless], SERVICE_COLUMNS, "wide"), /ClusterIP +None .* headless: DNS/);
  const waiting = Service.create({
    type: "LoadBalancer",
    conditions: [{ type: "AddressPool", ok: false, reason: "NoPool", message: "no pool" }],
  });
  match(render([waiting], SERVICE_COLUMNS, "table"), /<pending>/);
});

Deno.test("describeService() shows frontends, backends with their states, and what is missing and why", () => {
  const backends = [
    Backend.create({
      name: "7/10.0.0.2/80",
      service: 7,
      address: "10.0.0.2",
      port: 80,
      state: "ACTIVE",
      node: "n1",
      pod: "default/a",
      serving: true,
    }),
    Backend.create({
      name: "7/10.0.0.3/80",
      service: 7,
      address: "10.0.0.3",
      port: 80,
      state: "TERMINATING",
      weight: 5,
    }),
  ];
  const conditions = [{
    type: "Conflict",
    ok: false,
    reason: "AddressPortTaken",
    message: "belongs to default/old",
  }];
  const text = describeService({ ...WEB, conditions }, backends, NOW_S);
  match(text, /Manifest: +web\.yaml:4/);
  match(text, /NodePort +every of the nodes +30080 +TCP/);
  match(
    text,
    /Backends of http \(id 7\)\n {2}maglev\/1021; dsr; .*; affinity ClientIP 60s; from 198\.51\.100\.0\/24/,
  );
  match(text, /10\.0\.0\.2 +80 +active +1 +n1 +- +default\/a/);
  match(text, /10\.0\.0\.3 +80 +terminating \(no longer serving\) +5 /);
  match(text, /Conflict +no +AddressPortTaken +belongs to default\/old/);
});

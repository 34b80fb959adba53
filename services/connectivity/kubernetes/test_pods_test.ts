import { deepEqual, equal, throws } from "node:assert/strict";
import { TargetError } from "../target.ts";
import { accountObjects, podAt, podObject, whyNotReady } from "./test_pods.ts";

const OPTIONS = {
  image: "image:1",
  nodes: [{ name: "n1", ipv4: "", ipv6: "" }, { name: "n2", ipv4: "", ipv6: "" }],
  prober: ["deno", "run"],
};

Deno.test("podObject() says node, account and what answers", () => {
  const pod = podObject("ns", {
    name: "echo",
    node: 5,
    labels: { kind: "echo" },
    ports: [{ port: 8080, protocol: "TCP", name: "http", hostPort: 99 }, { port: 8080, protocol: "UDP" }],
  }, OPTIONS);
  const [{ command, readinessProbe, ports }] = pod.spec.containers;
  deepEqual(command, ["deno", "run", "serve", "echo", "8080/TCP", "8080/UDP"]);
  equal(readinessProbe.tcpSocket.port, 8080);
  deepEqual(ports[0], { containerPort: 8080, protocol: "TCP", name: "http", hostPort: 99 });
  deepEqual([pod.spec.nodeName, pod.spec.automountServiceAccountToken], ["n2", false]);
  const quiet = podObject("ns", { name: "client", node: 0, labels: {} }, OPTIONS);
  deepEqual(quiet.spec.containers[0].command, ["sleep", "infinity"]);
  const accounts = accountObjects("ns", [
    { name: "a", node: 0, labels: {}, serviceAccount: "own" },
    { name: "b", node: 0, labels: {} },
    { name: "c", node: 0, labels: {} },
  ]);
  deepEqual(accounts.map(({ metadata }) => metadata.name), ["own", "weir-test"]);
});

Deno.test("whyNotReady() tells late from hopeless, and takes any status", () => {
  const pod = (status: unknown) => ({
    metadata: { name: "p", namespace: "ns" },
    spec: { nodeName: "n1" },
    status,
  });
  equal(whyNotReady(pod(undefined)), "ns/p is unknown");
  equal(whyNotReady(pod({ phase: "Pending" })), "ns/p is Pending");
  const waiting = (reason: string) =>
    pod({ containerStatuses: [{ state: { waiting: { reason, message: "why" } } }] });
  equal(whyNotReady(waiting("ContainerCreating")), "ns/p is ContainerCreating");
  for (const reason of ["ErrImagePull", "ImagePullBackOff", "CreateContainerConfigError"]) {
    throws(() => whyNotReady(waiting(reason)), TargetError);
  }
  throws(() => whyNotReady(pod({ phase: "Failed", reason: "Evicted" })), /Evicted/);
  const ready = pod({
    conditions: [{ type: "Ready", status: "True" }],
    podIPs: [{ ip: "fd00::1" }, { ip: "10.0.0.1" }],
  });
  equal(whyNotReady(ready), undefined);
  const { ipv4, ipv6, node, hostNetwork } = podAt(ready);
  deepEqual([ipv4, ipv6, node, hostNetwork], ["10.0.0.1", "fd00::1", "n1", false]);
});

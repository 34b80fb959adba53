import assert from "node:assert/strict";
import { EndpointSockets } from "@weir/proto/datapath";
import { socketStage } from "./socket_stage.ts";

const listening = (address: string, v6only = false) =>
  EndpointSockets.create({ listening: [{ protocol: "TCP", address, port: 8080, v6only }] });
const ask = (sockets: EndpointSockets, address?: string) =>
  socketStage({ title: "shop/web", protocol: 6, port: 8080, sockets, address });

Deno.test("socketStage() knows that a listener of one IP family does not get the other's connections", () => {
  const six = ask(listening("::", true), "10.0.0.7");
  assert.equal(six.state, "broken");
  assert.match(six.message, /for IPv6 only: connections to 10\.0\.0\.7 are refused$/);
  const four = ask(listening("0.0.0.0"), "fd57::7");
  assert.match(four.message, /for IPv4 only: connections to fd57::7 are refused$/);
  assert.match(four.fixes[0], /^Let it listen on :: too/);
});

Deno.test("socketStage() is content with :: for both families, and with either where the address is not known", () => {
  assert.equal(ask(listening("::"), "10.0.0.7").state, "ok");
  assert.equal(ask(listening("::"), "fd57::7").state, "ok");
  assert.equal(ask(listening("::", true)).state, "ok");
});

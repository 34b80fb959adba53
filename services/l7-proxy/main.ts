/** The L7 proxy as a process. @module */
import { WeirClient } from "@weir/client";
import { Prefix, runService } from "@weir/common";
import { LearnedNames, LearnedNamesResponse } from "@weir/proto/endpoint";
import { listenForDatagrams } from "./datagram_listener.ts";
import { DnsDatagrams, DnsShared, NameLearner, type NameLearnerParts } from "./dns/mod.ts";
import { HandlePrefixes } from "./handle_address.ts";
import { HandleSource } from "./handle_source.ts";
import { listen } from "./listener.ts";
import { Proxy } from "./proxy.ts";
import { RecordSender } from "./record_sender.ts";
import { RuleBook } from "./rule_book.ts";
import { mountProxy } from "./server.ts";

runService({
  name: "l7-proxy",
  config: {
    state: {
      kind: "text",
      default: "",
      description: "directory for what a new process judges by; empty: none",
    },
    port: { kind: "number", default: 15_001, min: 1, max: 65_535, description: "port of handles" },
    datagramPort: {
      kind: "number",
      default: 0,
      min: 0,
      max: 65_535,
      description: "port of this process's flows of datagrams; 0: the same",
    },
    sharedPort: {
      kind: "flag",
      description:
        "other processes of this user take connections at the port too, and the kernel divides them",
    },
    handlePrefixV4: {
      kind: "text",
      default: "240.0.0.0/8",
      description: "IPv4 addresses of handles; empty: none",
    },
    handlePrefixV6: {
      kind: "text",
      default: "fd57:4c37::/64",
      description: "IPv6 addresses of handles; empty: none",
    },
    datapath: {
      kind: "text",
      default: "/run/weir/host/datapath-read.sock",
      description: "this node's datapath",
    },
    flowExporter: {
      kind: "text",
      default: "",
      description: "socket of the flow exporter for records; empty: none",
    },
    names: {
      kind: "text",
      default: "",
      description:
        "socket of the endpoint manager that is told which addresses names have; empty: none, and no answer is held",
    },
    dnsDenial: {
      kind: "text",
      default: "refused",
      description: "how a question for a name that no rule allows is answered: refused, or nxdomain",
    },
  },
  create({ config, api, log, metrics, health, clock, signal }) {
    const book = new RuleBook(config.state);
    // Deno asks for the right to the host of a URL, also where a unix socket is meant: an address that this process may speak to, and nobody has.
    const host = config.handlePrefixV4 === ""
      ? "[::1]:2"
      : `${Prefix.parse(config.handlePrefixV4).address}:${config.port}`;
    const clientOf = (address: string) => new WeirClient({ socket: address.replace(/^unix:/, ""), host });
    for (const broken of book.load()) log.error("Cannot judge by what was kept", { broken });
    const records = new RecordSender({
      exporter: config.flowExporter === "" ? undefined : clientOf(config.flowExporter),
      metrics,
      clock,
      log,
    });
    const handles = new HandleSource({ datapath: clientOf(config.datapath), clock, metrics, log });
    if (config.dnsDenial !== "refused" && config.dnsDenial !== "nxdomain") {
      throw new Error(
        `Cannot deny names by ${JSON.stringify(config.dnsDenial)}: expected refused or nxdomain`,
      );
    }
    const learner = config.names === "" ? undefined : new NameLearner({
      tell: namesTold(clientOf(config.names)),
      endpointOf: (id) => book.endpoint(id),
      mayMean: (id, name) => book.mayMean(id, name),
      metrics,
      clock,
      log,
    });
    const dns = new DnsShared({ learner, denial: config.dnsDenial, metrics, clock });
    const prefixes = new HandlePrefixes([config.handlePrefixV4, config.handlePrefixV6]);
    const proxy = new Proxy({
      prefixes,
      book,
      dns,
      records,
      handleOf: (number, peer) => handles.get(number, peer),
      connect: async (address) => {
        const socket = await Deno.connect({ hostname: address, port: config.port });
        // Where the datapath did not turn it to the server, it leads back to here.
        if (socket.remoteAddr.hostname === address) {
          socket.close();
          throw new Error("the datapath does not know this connection any more");
        }
        socket.setNoDelay(true);
        return socket;
      },
      metrics,
      clock,
      log,
    });
    mountProxy(api, book, proxy);
    health.ok("rules", `${book.policies.size} policies, ${book.endpoints.size} endpoints`);
    const sweeping = proxy.sweep(signal);
    const following = handles.follow(signal);
    // Who comes before anybody can say whose the connection is had better be refused at once: the kernel does, and tells of it.
    for (const part of ["listener", "datagrams"]) health.waitFor(part, "the datapath has not answered yet");
    const whenAnswered = async (listen: () => Promise<void>) => {
      await handles.answered;
      await listen();
    };
    const listening = whenAnswered(() =>
      listen({
        port: config.port,
        isShared: config.sharedPort,
        serve: (accepted) => proxy.serve(accepted),
        health,
        clock,
        log,
        signal,
      })
    );
    const datagrams = whenAnswered(() =>
      listenForDatagrams({
        port: config.datagramPort || config.port,
        datagrams: new DnsDatagrams({
          prefixes,
          shared: dns,
          handleOf: (number) => handles.get(number),
          flowOf: (handle) => proxy.flow(handle),
        }),
        hasIpv6: config.handlePrefixV6 !== "",
        health,
        clock,
        log,
        signal,
      })
    );
    records.start();
    return {
      async stop() {
        await Promise.all([sweeping, following, listening, datagrams]);
        await records.flush();
        await records.stop();
      },
    };
  },
});

/** Hands names to the endpoint manager. */
function namesTold(manager: WeirClient): NameLearnerParts["tell"] {
  return (names, deadlineMs) =>
    manager.call("/v1/names", {
      request: { message: LearnedNames, value: { names } },
      response: LearnedNamesResponse,
      deadlineMs,
    });
}

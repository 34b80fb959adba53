/** The relay as a process. @module */
import { Reflector, watchTrust, WeirClient } from "@weir/client";
import { assertViewer, credentialPaths, RELAY_PORT, runService, TlsFiles } from "@weir/common";
import { GrpcServer, keepListening, readListenAddress } from "@weir/grpc";
import { Node } from "@weir/proto/identity";
import { NodeLinks } from "./node_links.ts";
import { relayMethods } from "./observer.ts";
import { nodeTargets } from "./node_target.ts";

const LOOK_MS = 1000;

runService({
  name: "relay",
  config: {
    node: { kind: "text", description: "name of this node, default the host's name" },
    allocator: {
      kind: "text",
      default: "/run/weir/host/identity-allocator.sock",
      description: "identity allocator, which knows the nodes",
    },
    nodeSocket: {
      kind: "list",
      description: "NAME=PATH of a node whose Observer is reached by a unix socket; may be repeated",
    },
    cluster: { kind: "text", default: "default", description: "name of the cluster" },
    nodeTlsDirectory: {
      kind: "text",
      default: "",
      description: "directory with node.crt, node.key and ca.crt that is shown to nodes on other machines",
    },
    authority: { kind: "text", default: "", description: "certificate authority, which knows the members" },
    relaySocket: { kind: "text", default: "", description: "unix socket with Hubble Relay's gRPC API" },
    relayListen: {
      kind: "text",
      default: "",
      description: "ADDRESS[:4245] with Hubble Relay's API; beyond loopback with mutual TLS only",
    },
    relayTlsDirectory: {
      kind: "text",
      default: "",
      description: "directory with node.crt, node.key and ca.crt for relayListen",
    },
  },
  create({ config, log, metrics, health, clock, signal }) {
    const tlsDirectory = config.relayTlsDirectory;
    const tcp = readListenAddress(config.relayListen, {
      portDefault: RELAY_PORT,
      tlsDirectory,
      tlsFlag: "--hubble-relay-tls-directory",
    });
    const cluster = config.nodeTlsDirectory === "" ? undefined : {
      files: new TlsFiles(credentialPaths(config.nodeTlsDirectory)),
      trust: {
        cluster: config.cluster,
        // People come in by TCP alone: their certificates stand among the tokens.
        table: watchTrust(config.authority, { log, clock, signal, membersOnly: tlsDirectory === "" }),
        clock,
      },
    };
    const targetOf = nodeTargets({ sockets: config.nodeSocket ?? [], cluster });
    const links = new NodeLinks({ targetOf, clock, log });
    cluster?.trust.table.onWithdrawn(() => links.recheck());
    const allocator = new WeirClient(config.allocator);
    const nodes = new Reflector(allocator.collection("nodes", Node), {
      log,
      onChange: (name, node) => links.set(name, node),
    }).start();
    const gauge = metrics.gauge("weir_relay_nodes", "Nodes that the relay follows, by state");
    gauge.collect(() => [
      [{ state: "connected" }, links.connected.length],
      [{ state: "away" }, links.list().length - links.connected.length],
    ]);
    const server = new GrpcServer({
      methods: relayMethods({
        links,
        nodeName: config.node ?? Deno.hostname(),
        clock,
        log,
        metrics,
        isSynced: () => nodes.synced,
      }),
      log,
      metrics,
      clock,
    });
    const look = () => {
      if (!nodes.synced) return health.waitFor("nodes", "waits for the list of nodes");
      const away = links.list().filter(({ state }) => state !== "connected");
      const text = away.map(({ name, reason }) => `${name}: ${reason}`).join("; ");
      health.ok("nodes", `${links.connected.length} connected${text === "" ? "" : `; away: ${text}`}`);
    };
    look();
    const timer = setInterval(look, LOOK_MS);
    signal.addEventListener("abort", () => clearInterval(timer));
    signal.addEventListener("abort", () => server.stop());
    keepListening(server, {
      socket: config.relaySocket,
      tcp,
      tlsDirectory,
      // Of certificates by somebody else's authority that one is the judge alone.
      check: cluster && ((certificate, own) => {
        const ours = cluster.files.get(clock.monotonicMs()).authority;
        if (own.authority === ours) assertViewer(certificate, own, cluster.trust);
      }),
      health,
      log,
      metrics,
      clock,
      signal,
    });
    return {
      async stop() {
        links.close();
        await nodes.stop();
      },
    };
  },
});

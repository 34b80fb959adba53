/** The web page as a process that is always there. @module */
import { WeirClient } from "@weir/client";
import { runService } from "@weir/common";
import { Ticket } from "@weir/proto/ui";
import { openPage } from "./server/page_server.ts";
import { ResidentPage } from "./server/resident_page.ts";
import { sessionKey } from "./server/session_key.ts";
import { Sessions, Tickets } from "./server/sessions.ts";
import { readingTargets } from "./server/reading_targets.ts";

runService({
  name: "ui",
  config: {
    cluster: { kind: "text", default: "default", description: "name of the cluster" },
    lab: { kind: "text", default: "", description: "name of the lab, for the commands that the page shows" },
    flows: {
      kind: "list",
      description: "unix socket with Hubble's Observer; may be repeated, the best first",
    },
    identityAllocator: { kind: "text", default: "", description: "address of the identity allocator" },
    policyEngine: { kind: "text", default: "", description: "address of the policy engine" },
    loadBalancer: { kind: "text", default: "", description: "address of the load balancer" },
    flowHistory: {
      kind: "text",
      default: "",
      description: "address of the flow history; empty: there is none",
    },
    node: { kind: "list", description: "NAME=DIRECTORY with the sockets of a node; may be repeated" },
    page: { kind: "text", default: "", description: "directory of the built page" },
    keyFile: { kind: "text", default: "", description: "file with the key of browsers' sessions" },
    pageSocket: { kind: "text", default: "", description: "unix socket with the page" },
    pageListen: { kind: "text", default: "", description: "ADDRESS[:12000] with the page; empty: none" },
    pageTlsDirectory: {
      kind: "text",
      default: "",
      description: "directory with node.crt and node.key for it",
    },
    pageTokenFile: {
      kind: "text",
      default: "",
      description: "file with a token that lets in beside tickets",
    },
    pageHost: { kind: "list", description: "another name by which browsers reach it; may be repeated" },
    pageBasePath: { kind: "text", default: "", description: "path below which it is, such as /weir" },
  },
  create({ config, api, log, metrics, health, clock, signal }) {
    const { identityAllocator, policyEngine, loadBalancer, flowHistory } = config;
    const page = openPage({
      services: {
        flowSockets: config.flows ?? [],
        identityAllocator,
        policyEngine,
        flowHistory: flowHistory === "" ? undefined : flowHistory,
        status: readingTargets({
          nodes: config.node ?? [],
          cluster: {
            "identity-allocator": identityAllocator,
            "policy-engine": policyEngine,
            "load-balancer": loadBalancer,
          },
          connect: (address) => new WeirClient(address),
        }),
      },
      basePath: config.pageBasePath,
      page: config.page,
      lab: config.lab,
      cluster: config.cluster,
      log,
      clock,
    });
    const nowS = () => clock.nowMs() / 1000;
    const resident = new ResidentPage({
      page,
      sessions: new Sessions({ key: sessionKey(config.keyFile, log), nowS }),
      tickets: new Tickets(nowS),
      socket: config.pageSocket,
      listen: config.pageListen,
      hosts: config.pageHost ?? [],
      tlsDirectory: config.pageTlsDirectory,
      tokenFile: config.pageTokenFile,
      health,
      metrics,
      log,
      clock,
      signal,
    });
    api.action({
      path: "/v1/tickets",
      response: Ticket,
      handle: () => resident.ticket(),
      description: "A way in to the page for one browser",
    });
    return {
      async stop() {
        await Promise.all([resident.stop(), page.stop()]);
      },
    };
  },
});

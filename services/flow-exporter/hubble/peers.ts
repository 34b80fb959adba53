/** Hubble's Peer service: which nodes there are and where each one's Observer is. A relay follows it. @module */
import { hostPort } from "@weir/common";
import { type GrpcMethods, streaming } from "@weir/grpc";
import type { Init } from "@weir/proto";
import type { Node } from "@weir/proto/identity";
import { ChangeNotification, NotifyRequest } from "@weir/proto/peer";

/** The nodes are looked at so often. */
const LOOK_MS = 1000;

/** What the nodes' Observers are reached by. */
export interface PeerOptions {
  readonly nodes: () => readonly Node[];
  /** Port of every node's Observer: the same as here. */
  readonly port: () => number;
  readonly isTls: boolean;
  /** Name in every node's certificate; absent: the node's own. */
  readonly serverName?: string;
  readonly sleep: (ms: number, signal: AbortSignal) => Promise<void>;
}

/** Methods by path. */
export function peerMethods({ nodes, port, isTls, serverName, sleep }: PeerOptions): GrpcMethods {
  const present = () =>
    new Map(
      nodes().filter(({ state }) => state !== "NODE_DEAD").map((node): [string, Init<ChangeNotification>] => {
        const name = node.cluster === "" ? node.name : `${node.cluster}/${node.name}`;
        const address = hostPort(node.ipv4 || node.ipv6, port());
        return [name, { name, address, tls: isTls ? { server_name: serverName ?? node.name } : undefined }];
      }),
    );
  return {
    "/peer.Peer/Notify": streaming(NotifyRequest, ChangeNotification, async function* (_, { signal }) {
      let told = new Map<string, Init<ChangeNotification>>();
      for (; !signal.aborted; await sleep(LOOK_MS, signal)) {
        const now = present();
        const changes: Init<ChangeNotification>[] = [];
        for (const [name, peer] of now) {
          const before = told.get(name);
          if (before === undefined) changes.push({ ...peer, type: "PEER_ADDED" });
          else if (before.address !== peer.address) changes.push({ ...peer, type: "PEER_UPDATED" });
        }
        for (const [name, peer] of told) if (!now.has(name)) changes.push({ ...peer, type: "PEER_DELETED" });
        told = now;
        if (changes.length > 0) yield changes.map((change) => ChangeNotification.create(change));
      }
    }),
  };
}

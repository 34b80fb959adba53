/** `weir hubble ui`, and `weir ui` on a cluster: the page of the control plane, through the API server. @module */
import { WeirClient } from "@weir/client";
import { untilAborted } from "@weir/common/deadline";
import { UI_PORT } from "@weir/common/membership";
import { WeirPods } from "@weir/connectivity/weir-pods";
import { Ticket } from "@weir/proto/ui";
import { openBrowser } from "../browser.ts";
import type { CommandContext } from "../context.ts";
import type { NamedCluster } from "../install/access.ts";
import { forwardPort } from "../port_forward.ts";
import { PlanePort, toPlanePort } from "./pod_forward.ts";

/** The question begins a program in the pod. */
const TICKET_MS_MAX = 45_000;

/** How the page is shown. */
export interface PageOptions {
  /** ADDRESS[:12000] of loopback; default: 127.0.0.1:12000, another port where that is taken. */
  readonly listen?: string;
  /** Opens a browser where there is a screen. */
  readonly open: boolean;
}

/** Leads a port to the page and opens it, until Ctrl-C. @throws {Error} there is no page, or it cannot be reached */
export async function showClusterPage(
  cluster: NamedCluster,
  { listen, open }: PageOptions,
  { io }: CommandContext,
): Promise<number> {
  const { token, address, basePath, unserved } = await fetchTicket(cluster);
  if (address === "") {
    const why = unserved === "" ? "it listens on no port" : unserved;
    throw new Error(`Cannot reach the page: ${why}; weir hubble enable`);
  }
  const { protocol, port } = new URL(address);
  const plane = new PlanePort(cluster, Number(port));
  await plane.check();
  const forward = await forwardPort({
    listen: listen ?? `127.0.0.1:${UI_PORT}`,
    isAnyPort: listen === undefined,
    lead: toPlanePort(plane, (text) => io.err(`weir: ${text}\n`)),
  });
  try {
    const url = `${protocol}//${forward.address}${basePath}?token=${token}`;
    io.out(`${url}\n`);
    io.err("It lets one browser in, within ten minutes. Ctrl-C ends the way to the page\n");
    if (open) await openBrowser(url);
    await untilAborted(io.interrupted);
  } finally {
    await forward.stop();
  }
  return 0;
}

async function fetchTicket({ client, namespace }: NamedCluster): Promise<Ticket> {
  await using pods = await WeirPods.open(client, namespace);
  const page = new WeirClient({ handler: pods.handler("ui") }, { deadlineMs: TICKET_MS_MAX });
  try {
    return await page.call("/v1/tickets", { response: Ticket });
  } catch (error) {
    // Where it is turned off, nothing listens on its socket.
    if (/reach ui in pod/.test((error as Error).message)) {
      throw new Error(`${(error as Error).message}; weir hubble enable turns the page on`, { cause: error });
    }
    throw error;
  } finally {
    page.close();
  }
}

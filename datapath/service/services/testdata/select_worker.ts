/** Runs a program again and again on a thread of its own, until it is told to stop. @module */
import { BpfProgram } from "@weir/loader";

/** The thread's own scope, whose types the other files do not load. */
const scope = globalThis as unknown as {
  onmessage: (event: MessageEvent<{ fd: number; stop: SharedArrayBuffer }>) => void;
  postMessage: (message: string) => void;
};

scope.onmessage = ({ data: { fd, stop } }: MessageEvent<{ fd: number; stop: SharedArrayBuffer }>) => {
  const program = new BpfProgram(fd, "select_loop"), stopping = new Int32Array(stop);
  let runs = 0;
  while (Atomics.load(stopping, 0) === 0) {
    program.testRun({ data: new Uint8Array(64), repeat: 200 });
    if (runs++ === 0) scope.postMessage("running");
  }
  scope.postMessage("stopped");
};

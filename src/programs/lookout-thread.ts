/** The thread of a Lookout: it waits in epoll_wait, and says which descriptors are ready. Nothing else. */
import { parentPort } from "node:worker_threads";
import { native } from "../native/library.ts";
import { EVENT_WORDS } from "../native/structs.ts";

const BATCH = 64;

if (parentPort) {
  const port = parentPort;
  port.once("message", (epoll: number) => {
    const events = new Int32Array(BATCH * EVENT_WORDS);
    for (;;) {
      const count = native.sb_epoll_wait(epoll, events, BATCH, -1);
      if (count > 0) port.postMessage(events.slice(0, count * EVENT_WORDS));
    }
  });
  port.postMessage("loaded");
}

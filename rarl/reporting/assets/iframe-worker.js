// The search of the theme runs in a worker, which browsers refuse to pages of the file system. There a hidden frame takes
// its place: the theme knows it by its name, as that of the package iframe-worker, which comes from the network.
if (location.protocol === "file:") {
  window.IFrameWorker = window.Worker = class IFrameWorker extends EventTarget {
    constructor(url) {
      super();
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      this.frame.title = "search";
      document.body.append(this.frame);
      const end = "</" + "script>";
      this.ready = new Promise((resolve) => (this.frame.onload = resolve));
      this.frame.contentDocument.open();
      this.frame.contentDocument.write(
        "<!doctype html><title>search</title><body><script>" +
          "postMessage = parent.postMessage.bind(parent);" +
          "importScripts = (...urls) => urls.reduce((before, url) => before.then(() => new Promise((done) => {" +
          "const script = document.createElement('script'); script.src = url; script.onload = done;" +
          "document.body.append(script); })), Promise.resolve());" + end +
          `<script src="${url}">` + end
      );
      this.frame.contentDocument.close();
      addEventListener("message", (event) => {
        if (event.source !== this.frame.contentWindow) return;
        event.stopImmediatePropagation();
        const message = new MessageEvent("message", { data: event.data });
        this.dispatchEvent(message);
        this.onmessage?.(message);
      });
    }
    postMessage(data) {
      this.ready.then(() => this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data })));
    }
    terminate() {
      this.frame.remove();
    }
  };
}

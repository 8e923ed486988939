// Puts one file into its cache, and hands on every request of the pages, navigations too.
addEventListener("install", (event) => {
  skipWaiting();
  event.waitUntil(caches.open("icon").then((cache) => cache.add("/icon.svg")));
});
addEventListener("activate", (event) => event.waitUntil(clients.claim()));
addEventListener("fetch", (event) => event.respondWith(fetch(event.request)));

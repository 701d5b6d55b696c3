// Shows the OpenAPI document that the page names. No validator badge: it would send the document to another host.
const container = document.getElementById("swagger");
window.SwaggerUIBundle({
  url: container.dataset.openapi,
  domNode: container,
  deepLinking: true,
  validatorUrl: null,
  presets: [window.SwaggerUIBundle.presets.apis, window.SwaggerUIBundle.SwaggerUIStandalonePreset],
});

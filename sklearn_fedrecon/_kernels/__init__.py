"""Arithmetic of many clients at once: systems, predictions, minibatches, working memory."""

"""May this adapter, bundle or record be believed?"""
